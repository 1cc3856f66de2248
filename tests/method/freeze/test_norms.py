import pytest
import torch
from torch import nn

from cssegcore.core.errors import InputError
from cssegcore.core.registry import build_part
from cssegcore.core.types import UpdateFactors
from cssegcore.method.freeze import Freeze
from cssegcore.models.heads.conv import Conv
from cssegcore.models.segmenter import Segmenter
from cssegcore.training.optimizer import build_optimizer, group_weights
from tests.helpers.tiny_training import OPTIMIZER, new_segmenter, state


def freeze(segmenter, **numbers):
    recipe = {"part": "norms", **numbers}
    return build_part("cssegcore.method.freeze", Freeze, recipe, "x")(segmenter)


def grown():
    """Returns a network with norms and dropout everywhere, which has just grown a head."""
    extractor = new_segmenter([3]).extractor
    extractor.local = nn.Sequential(extractor.local, nn.Dropout(0.5))
    segmenter = Segmenter(extractor, Conv(), [3])
    segmenter.grow(2)
    return segmenter


def test_normalisation_and_dropout_stand_still_and_all_else_learns():
    segmenter = grown()
    freeze(segmenter)
    norms = {n for n, m in segmenter.named_modules() if isinstance(m, nn.BatchNorm2d)}
    assert any(n.startswith("extractor.backbone") for n in norms)
    assert {"heads.0.norm", "heads.1.norm"} <= norms
    frozen = {n for n, w in segmenter.named_parameters() if not w.requires_grad}
    assert frozen == {f"{n}.{kind}" for n in norms for kind in ("weight", "bias")}
    before, photographs = state(segmenter), torch.randn(2, 3, 16, 16)
    for _ in range(2):  # what each epoch says does not undo it
        segmenter.train()
        first, second = (segmenter(photographs).logits for _ in range(2))
        assert torch.equal(first, second)
    assert state(segmenter) == before


@pytest.mark.parametrize(("decay", "of_others"), [("all", 1.0), ("newest", 0.0)])
def test_factors_are_those_of_the_newest_head_and_of_the_others(decay, of_others):
    segmenter = grown()
    factors = freeze(segmenter, decay=decay, newest_lr=10)
    learned = {n for n, w in segmenter.named_parameters() if w.requires_grad}
    assert factors.keys() == learned
    for name, found in factors.items():
        new = name.startswith("heads.1.")
        assert found == (UpdateFactors(10, 1) if new else UpdateFactors(1, of_others))


def test_weights_move_by_their_factors():
    segmenter = grown()
    factors = freeze(segmenter, decay="newest", newest_lr=10)
    weights = {n: w for n, w in segmenter.named_parameters() if w.requires_grad}
    before = {n: w.detach().clone() for n, w in weights.items()}
    numbers = OPTIMIZER | {"weight_decay": 0.5, "backbone_lr": 0.1}
    groups = group_weights(weights, factors, 0.1)
    assert set(groups) == {UpdateFactors(0.1, 0), UpdateFactors(1, 0), UpdateFactors(10, 1)}
    for weight in weights.values():
        weight.grad = torch.ones_like(weight)
    build_optimizer(numbers).start(groups).step(lambda factor: 0.01 * factor)
    for name, weight in weights.items():
        # the first step of Nesterov's momentum is 1 + 0.9 gradients
        if name.startswith("heads.1."):
            moved = 0.1 * 1.9 * (1 + 0.5 * before[name])
        else:
            moved = torch.full_like(weight, 0.01 * 1.9)
            if name.startswith("extractor.backbone."):
                moved *= 0.1
        torch.testing.assert_close(before[name] - weight.detach(), moved, rtol=1e-4, atol=1e-7)


def test_the_heads_that_read_auxiliary_features_are_new_as_well():
    segmenter = grown()
    segmenter.auxiliary = nn.ModuleList([nn.ModuleList([nn.Conv2d(8, 3, 1), nn.Conv2d(8, 2, 1)])])
    factors = freeze(segmenter, decay="newest")
    assert factors["auxiliary.0.0.weight"].weight_decay == 0
    assert factors["auxiliary.0.1.weight"].weight_decay == 1


@pytest.mark.parametrize("number", [0, -1, float("inf")])
def test_a_factor_that_moves_nothing_is_refused(number):
    with pytest.raises(InputError, match="`newest_lr` must be a finite number > 0"):
        freeze(grown(), newest_lr=number)
