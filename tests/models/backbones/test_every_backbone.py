"""What every part of the slot promises; a new part is tested by being there."""

import dataclasses

import pytest
import torch
from torch import nn

from cssegcore.core.errors import InputError
from cssegcore.core.normalization import Normalization
from cssegcore.core.registry import build_part, part_names
from cssegcore.models._base import Architecture
from cssegcore.models.backbones import backbone_kind
from cssegcore.models.fuse_batchnorm import fuse_batchnorm

PARTS = part_names("cssegcore.models.backbones")
NUMBERS = {
    "resnet": {"depth": 50},
    "timm": {"name": "tf_efficientnet_lite0"},
    "vit": {"patch": 8, "width": 8, "depth": 2, "heads": 2, "image": 64},
}
"""What a part needs, or what makes its test quicker."""


def kind(part, **changed):
    return backbone_kind({"part": part, "weights": "none"} | NUMBERS.get(part, {}) | changed)


def outlines(part):
    """Returns what the part builds for each stride that it can end at."""
    found = {}
    for stride in (32, 16, 8):
        try:
            found[stride] = kind(part).outline(stride)
        except InputError:
            continue
    return found


def images(b, h, w):
    return torch.randn(b, 3, h, w, generator=torch.Generator().manual_seed(0))


def norms(module):
    return [m for m in module.modules() if isinstance(m, nn.BatchNorm2d)]


@pytest.fixture(
    scope="module",
    params=[pytest.param(p, marks=() if p == "small" else pytest.mark.slow) for p in PARTS],
)
def part(request):
    if request.param in ("timm", "vit"):
        pytest.importorskip("timm")
    return request.param


@pytest.fixture(scope="module")
def stride(part):
    return max(outlines(part))


@pytest.fixture(scope="module")
def stirred(part, stride):
    """A backbone whose normalisations do something."""
    torch.manual_seed(0)
    backbone = kind(part).build(stride)
    for norm in norms(backbone):
        norm.running_mean.normal_(0, 0.2)
        norm.running_var.uniform_(0.5, 2)
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.bias, 0, 0.2)
    return backbone


def test_its_names_are_those_of_the_folder():
    assert {"mobilenet_v2", "resnet", "small", "timm", "vit"} <= set(PARTS)


def test_features_have_the_strides_and_channels_that_it_says(part):
    for stride in outlines(part):
        backbone = kind(part).build(stride).eval()
        strides, channels = backbone.strides, backbone.channels
        assert strides[-1] == stride
        assert strides[0] == (8 if part == "vit" else 4)  # its patch
        assert list(strides) == sorted(strides)
        with torch.no_grad():
            features = backbone(images(1, 65, 97))
        sizes = [(1, n, -(-65 // s), -(-97 // s)) for n, s in zip(channels, strides, strict=True)]
        assert [tuple(feature.shape) for feature in features] == sizes


def test_a_stride_that_it_cannot_have_is_refused(part):
    with pytest.raises(InputError, match=r"`model\.backbone`: .* cannot end at stride 64"):
        kind(part).outline(64)


def test_an_outline_draws_no_numbers_and_holds_no_memory(part, stride):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    outline = kind(part).outline(stride)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(value.is_meta for value in outline.state_dict().values())


def test_the_same_seed_gives_the_same_weights(part, stride):
    def fresh(seed):
        torch.manual_seed(seed)
        return kind(part).build(stride).state_dict()

    first, again, other = fresh(1), fresh(1), fresh(2)
    assert all(torch.equal(value, again[key]) for key, value in first.items())
    assert any(not torch.equal(value, other[key]) for key, value in first.items())


def test_every_weight_learns_and_features_outlive_the_pass(stirred):
    stirred.train().zero_grad()
    features = stirred(images(2, 64, 64))
    kept = [feature.detach().clone() for feature in features]
    read = [stirred.activation(feature) for feature in features]
    for feature, before in zip(features, kept, strict=True):
        assert torch.equal(feature, before)
    sum(seen.square().mean() for seen in (*features, *read)).backward()
    for name, weight in stirred.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.isfinite().all(), name
        assert weight.grad.abs().sum() > 0, name


def test_only_training_moves_statistics(stirred):
    def statistics():
        return [norm.running_mean.clone() for norm in norms(stirred)]

    before = statistics()
    with torch.no_grad():
        stirred.eval()(images(2, 64, 64))
        assert all(map(torch.equal, before, statistics()))
        stirred.train()(images(2, 64, 64))
    assert not any(map(torch.equal, before, statistics()))


def test_the_first_normalisation_sees_the_image_first(stirred):
    seen = []
    hooks = [n.register_forward_hook(lambda m, *_: seen.append(m)) for n in norms(stirred)]
    with torch.no_grad():
        stirred.eval()(images(1, 64, 64))
    for hook in hooks:
        hook.remove()
    assert len(seen) == len(norms(stirred)) == len(set(seen))
    assert stirred.input_norms() == seen[:1]


def test_numbers_of_the_recipe(part, stride):
    usual, other_momentum = (set(), set()) if part == "vit" else ({0.1}, {0.01})
    assert {norm.momentum for norm in norms(kind(part).outline(stride))} == usual
    other = {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]}
    outline = kind(part, batchnorm_momentum=0.01, normalization=other).outline(stride)
    assert {norm.momentum for norm in norms(outline)} == other_momentum
    assert outline.normalization == Normalization((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    for wrong in (0, -0.1, 1.1):
        with pytest.raises(InputError, match=r"`batchnorm_momentum` must lie in \(0, 1\], got"):
            kind(part, batchnorm_momentum=wrong)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"epoch": 3, "state_dict": {f"module.{k}": v for k, v in state.items()}},
        lambda state: {f"net.backbone.{k}": v for k, v in state.items()} | {"x": torch.ones(1)},
    ],
    ids=["plain", "wrapped", "within"],
)
def test_weights_come_from_a_file(part, stride, stirred, tmp_path, wrap):
    names, own = kind(part).names(stirred), stirred.state_dict()
    assert sorted(names.values()) == sorted(own)
    torch.save(wrap({key: own[name] for key, name in names.items()}), tmp_path / "w.pth")
    reading = kind(part, weights=str(tmp_path / "w.pth"))
    reading.check(stride)
    found = reading.build(stride).state_dict()
    assert found.keys() == own.keys()
    assert all(torch.equal(found[key], value) for key, value in own.items())


def test_weights_of_another_network_are_refused(part, stride, stirred, tmp_path):
    names, own = kind(part).names(stirred), stirred.state_dict()
    stored = {key: own[name] for key, name in names.items()}
    first = next(iter(stored))
    for wrong, reason in (
        ({first: torch.zeros(1, 2)}, rf"1 have another shape \({first} is 1×2, not "),
        ({"more.weight": torch.zeros(1)}, r"1 do not belong to the network \(more\.weight\)"),
        ({first: None}, rf"1 are missing \({first}\)"),
    ):
        kept = {key: value for key, value in (stored | wrong).items() if value is not None}
        torch.save(kept, tmp_path / "w.pth")
        reading = kind(part, weights=str(tmp_path / "w.pth"))
        for use in (reading.check, reading.build):
            with pytest.raises(InputError, match=reason) as refused:
                use(stride)
            assert "`model.backbone.weights`" in str(refused.value)
            assert "\n" not in str(refused.value)


def test_it_is_folded_under_a_decoder(part, stride, stirred):
    recipe = {"part": part, "weights": "none"} | NUMBERS.get(part, {})
    small = {"part": "small", "backbone": recipe, "depth": 4, "output_stride": stride}
    network = build_part("cssegcore.models.architectures", Architecture, small, "model")
    network.check()
    extractor = network.extractor()
    extractor.backbone.load_state_dict(stirred.state_dict())
    extractor.eval()
    quick = fuse_batchnorm(extractor)
    with torch.no_grad():
        got, wanted = quick(images(1, 64, 96)), extractor(images(1, 64, 96))
    for mine, theirs in zip(got.stages, wanted.stages, strict=True):
        assert torch.allclose(mine, theirs, rtol=1e-3, atol=1e-4 * theirs.abs().max())
    assert len(norms(quick)) < len(norms(extractor)) / 2 or part == "vit"


def test_a_part_is_a_value(part):
    assert kind(part) == dataclasses.replace(kind(part), batchnorm_momentum=0.1)
