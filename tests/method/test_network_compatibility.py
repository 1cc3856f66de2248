from importlib.util import find_spec

import pytest
from torch import nn

from cssegcore.core.errors import InputError
from cssegcore.core.registry import build_part
from cssegcore.method.network_compatibility import check_network
from cssegcore.models._base import Architecture
from tests.helpers.tiny_training import METHODS, MODEL, VIT_MODEL, method_section
from tests.method.test_compatibility import assembled

pytestmark = pytest.mark.skipif(find_spec("timm") is None, reason="timm is not installed")

SIGMOIDS = {"ssul", "ssul_m", "lwf_mc", "dkd", "dkd_m", "star", "star_m"}
LINEAR = {"nest_mib", "nest_plop"}
"""Recipes that class tokens do not suit, by the reason."""


def network(recipe):
    return build_part("cssegcore.models.architectures", Architecture, recipe, "model")


def refusal(method, changed, recipe=VIT_MODEL):
    with pytest.raises(InputError) as refused:
        check_network(assembled(method, changed), network(recipe))
    message = str(refused.value)
    assert "\n" not in message
    assert "  " not in message
    return message


def test_a_convolutional_network_has_no_class_tokens():
    assert refusal("mbs", {}, MODEL) == (
        "`method.losses.class_feature_mse` compares what class tokens become, and this network has"
        " none: choose `model=segmenter_vit_b16`, or drop the term"
        " (`-S '~method.losses.class_feature_mse'`)."
    )


def test_a_transformer_has_no_stages():
    assert refusal("plop", {}) == (
        "`method.losses.local_pod` compares the backbone's maps stage by stage, and this network, a"
        " transformer, has none: drop the term (`-S '~method.losses.local_pod'`), or take another"
        " network, such as `model=deeplabv3_r101`."
    )


def test_a_term_that_reads_the_classifiers_it_teaches_has_no_auxiliary_ones():
    recipe = {"part": "bisenet", "backbone": {"part": "resnet", "depth": 18, "weights": "none"}}
    said = refusal("star", {}, recipe)
    assert said.startswith("`method.losses.replayed_bce` teaches the classifiers whose weights it")
    assert "set `model.auxiliary` to 0" in said
    check_network(assembled("star", {}), network(recipe | {"auxiliary": 0.0}))
    check_network(assembled("mib", {}), network(recipe))


def test_tokens_replace_the_head():
    said = refusal("ft", {"base.head": {"part": "conv"}})
    assert said.startswith("`method.base.head` is 'conv', and this network has heads of its own")
    assert "set `method.base.head` to linear" in said


def test_sigmoids_cannot_say_no_to_all():
    said = refusal("lwf_mc", {})
    assert said.startswith("`method.base.losses` read each score by itself, as a sigmoid")


def test_tokens_are_no_linear_classifier():
    said = refusal("nest_mib", {})
    assert said.startswith("`method.classifier_init: pretuned` mixes the rows of linear")
    assert said.endswith("set `method.classifier_init` to background, or background_copy.")
    term = {"part": "reasoning"}
    said = refusal("mib", {"losses.reasoning": term})
    assert said.startswith("`method.losses.reasoning` scores features by a classifier's weights")


def test_still_features_hold_nothing():
    changed = {
        "freeze": {"part": "all_but_newest"},
        "base.unknown_class": {"part": "everything"},
    }
    said = refusal("ft", changed)
    assert said.startswith("`method.freeze: all_but_newest` holds old classes by holding")
    assert said.endswith("set `method.freeze` to old_heads or none.")


def test_a_transformer_has_no_statistics_to_hold():
    assert refusal("ft", {"freeze": {"part": "norms"}}) == (
        "`method.freeze: norms` holds batch normalisation and dropout, and this network, a"
        " transformer, has neither: set `method.freeze.part` to old_heads or none."
    )
    modules = network(VIT_MODEL).extractor().modules()
    held = nn.modules.batchnorm._BatchNorm, nn.modules.dropout._DropoutNd
    assert not [m for m in modules if isinstance(m, held) and getattr(m, "p", 1) > 0]
    check_network(assembled("ft", {"freeze": {"part": "norms"}}), network(MODEL))


@pytest.mark.parametrize("method", METHODS)
def test_every_other_recipe_suits_both_kinds(method):
    section = method_section(method)
    pod = {name for name, term in section["losses"].items() if term["part"] == "local_pod"}
    kept = {name: term for name, term in section["losses"].items() if name not in pod}
    if method not in SIGMOIDS | LINEAR:
        check_network(assembled(method, {"losses": kept}), network(VIT_MODEL))
    if method != "mbs":
        check_network(assembled(method, {}), network(MODEL))
