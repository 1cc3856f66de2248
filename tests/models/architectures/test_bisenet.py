import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from cssegcore.core.class_table import ClassTable
from cssegcore.core.errors import InputError
from cssegcore.core.registry import build_part
from cssegcore.method.classifier_init import ClassifierInit
from cssegcore.models import checkpoint
from cssegcore.models._base import Architecture
from tests.helpers import tiny_dataset as scenes
from tests.helpers.tiny_training import CPU, LINEAR, Layers, new_segmenter, state

pytestmark = pytest.mark.slow

RESNET18 = {"part": "resnet", "depth": 18, "weights": "none"}
R18 = {"part": "bisenet", "backbone": RESNET18}
MILLION = 1e6


def architecture(**changed):
    return build_part("cssegcore.models.architectures", Architecture, R18 | changed, "model")


def resnet(depth, weights="none"):
    return RESNET18 | {"depth": depth, "weights": str(weights)}


def new_extractor(**changed):
    torch.manual_seed(0)
    return architecture(**changed).extractor()


def segmenter_of(outputs, **changed):
    torch.manual_seed(0)
    return new_segmenter(outputs, model=R18 | changed)


def images(b, h, w):
    return torch.randn(b, 3, h, w, generator=torch.Generator().manual_seed(0))


def norms(module):
    return [m for m in module.modules() if isinstance(m, nn.BatchNorm2d)]


def unsettle(module):
    """Gives norms and biases values that tell one from another."""
    rng = torch.Generator().manual_seed(1)
    for norm in norms(module):
        norm.running_mean.normal_(0, 0.2, generator=rng)
        for value in (norm.running_var, norm.weight.data):
            value.uniform_(0.5, 1.5, generator=rng)
        norm.bias.data.normal_(0, 0.2, generator=rng)
    return module


def names(extractor, wanted):
    """Returns what modules are called."""
    called = {id(module): name for name, module in extractor.named_modules()}
    return [called[id(module)] for module in wanted]


@pytest.mark.parametrize(
    ("depth", "published", "norm_count", "parts"),
    [  # weights in millions with torchvision's classifier; the two paths' additions without it
        (18, 14.88, 26, (0.37, 0.33, 2.49)),
        (50, 38.98, 59, (0.37, 5.25, 7.80)),
        (101, 57.97, 110, (0.37, 5.25, 7.80)),
    ],
)
def test_it_has_the_weights_of_the_released_code(depth, published, norm_count, parts):
    def weights(*modules):
        return sum(p.numel() for module in modules for p in module.parameters())

    with torch.device("meta"):
        extractor = architecture(backbone=resnet(depth)).extractor()
    unused = (extractor.last_stage_channels + 1) * 1000  # torchvision's classifier
    assert round((weights(extractor) + unused) / MILLION, 2) == published
    assert len(norms(extractor)) == norm_count
    refinements = extractor.refine_middle, extractor.refine_deep
    sizes = weights(extractor.spatial), weights(*refinements), weights(extractor.fusion)
    assert tuple(round(size / MILLION, 2) for size in sizes) == parts


def convolved(x, weight, bias=None, stride=1):
    """Convolves 1x1, or 3x3 with a margin of zeros."""
    size = weight.shape[-1]
    margin = size // 2
    padded = np.pad(x, ((0, 0), (0, 0), (margin, margin), (margin, margin)))
    height, width = (-(-side // stride) for side in x.shape[2:])
    total = np.zeros((len(x), len(weight), height, width))
    for y, z in np.ndindex(size, size):
        seen = padded[:, :, y : y + stride * height : stride, z : z + stride * width : stride]
        seen = seen[:, :, :height, :width]
        total += np.einsum("oc,bchw->bohw", weight[:, :, y, z], seen)
    return total if bias is None else total + bias[:, None, None]


def normed(x, values, training):
    mean, variance = values["running_mean"], values["running_var"]
    if training:
        mean, variance = x.mean((0, 2, 3)), x.var((0, 2, 3))
    mean, variance, scale, shift = (
        v[:, None, None] for v in (mean, variance, values["weight"], values["bias"])
    )
    return (x - mean) / np.sqrt(variance + 1e-5) * scale + shift


def resized(x, height, width):
    """Enlarges bilinearly; a pixel is a square, not a point at a corner."""
    for axis, wanted in ((2, height), (3, width)):
        given = x.shape[axis]
        weights = np.zeros((wanted, given))
        for i in range(wanted):
            at = max((i + 0.5) * given / wanted - 0.5, 0)
            low = min(int(at), given - 1)
            weights[i, low] += 1 - (at - low)
            weights[i, min(low + 1, given - 1)] += at - low
        x = np.moveaxis(np.tensordot(weights, x, (1, axis)), 0, axis)
    return x


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def reference(weights, photographs, stages, training):
    """Computes what is read by the auxiliary classifiers and by the others, layer by layer."""
    groups = {}
    for key, value in weights.items():
        layer, _, name = key.rpartition(".")
        groups.setdefault(layer, {})[name] = value.double().numpy()

    def block(x, layer, stride):
        spread = convolved(x, groups[f"{layer}.0"]["weight"], stride=stride)
        return np.maximum(normed(spread, groups[f"{layer}.1"], training), 0)

    def full(x, layer):
        return convolved(x, groups[layer]["weight"], groups[layer]["bias"])

    def refined(x, layer):
        scored = full(x.mean((2, 3), keepdims=True), f"{layer}.convolution")
        return x * sigmoid(normed(scored, groups[f"{layer}.norm"], training))

    spatial = photographs
    for i in range(3):
        spatial = block(spatial, f"spatial.{i}", 2)
    third, fourth = (np.maximum(tap, 0) for tap in stages[2:])
    tail = fourth.mean((2, 3), keepdims=True)
    middle = resized(refined(third, "refine_middle"), *spatial.shape[2:])
    deep = resized(refined(fourth, "refine_deep") * tail, *spatial.shape[2:])
    fused = block(np.concatenate([spatial, middle, deep], 1), "fusion.project", 1)
    inner = np.maximum(full(fused.mean((2, 3), keepdims=True), "fusion.weigh.0"), 0)
    return middle, deep, fused * sigmoid(full(inner, "fusion.weigh.2")) + fused


class TestTrunk:
    @pytest.mark.parametrize("training", [True, False])
    def test_features_are_those_of_the_formulas(self, training):
        extractor = unsettle(new_extractor()).train(training)
        weights = {k: v.clone() for k, v in extractor.state_dict().items()}
        photographs = images(3, 70, 90)
        with torch.no_grad():
            features = extractor(photographs)
        stages = [tap.double().numpy() for tap in features.stages]
        *auxiliary, top = reference(weights, photographs.double().numpy(), stages, training)
        assert features.decoder_out.shape == (3, 256, 9, 12)
        assert np.allclose(features.decoder_out, top, rtol=1e-3, atol=1e-3)
        assert top.std() > 0.1
        assert len(features.auxiliary) == (2 if training else 0)
        for got, expected in zip(features.auxiliary, auxiliary, strict=False):
            assert np.allclose(got, expected, rtol=1e-3, atol=1e-3)
            assert expected.std() > 0.1

    @pytest.mark.parametrize(("depth", "depths"), [(18, (256, 512)), (50, (1024, 2048))])
    def test_depths(self, depth, depths):
        extractor = new_extractor(backbone=resnet(depth)).train()
        features = extractor(images(2, 64, 96))
        assert extractor.auxiliary_channels == depths
        assert [tuple(f.shape) for f in features.auxiliary] == [(2, n, 8, 12) for n in depths]
        assert features.last_stage.shape == (2, extractor.last_stage_channels, 2, 3)
        assert features.decoder_out.shape == (2, extractor.channels, 8, 12)

    @pytest.mark.parametrize(("h", "w"), [(32, 32), (33, 47), (100, 65), (7, 1)])
    @pytest.mark.parametrize("training", [True, False])
    def test_any_size_gives_logits_of_that_size(self, h, w, training):
        outputs = segmenter_of([3, 2]).train(training)(images(2, h, w))
        assert outputs.logits.shape == (2, 5, h, w)
        assert outputs.logits_lowres.shape == (2, 5, math.ceil(h / 8), math.ceil(w / 8))
        assert [a.shape for a in outputs.auxiliary] == [(2, 5, h, w)] * (2 if training else 0)

    def test_first_weights(self):
        extractor = new_extractor()
        spreads = {
            extractor.spatial[2][0]: 128 * 9,
            extractor.refine_middle.convolution: 256,
            extractor.refine_deep.convolution: 512,
            extractor.fusion.project[0]: 1024 * 9,
            extractor.fusion.weigh[0]: 256,
            extractor.fusion.weigh[2]: 256,
            extractor.backbone.layer4[0].conv1: 512
            * 9,  # torchvision's: by outputs, which are twice
        }
        for layer, fan in spreads.items():
            assert layer.weight.std().item() == pytest.approx(math.sqrt(2 / fan), rel=0.02)

    def test_stems_and_what_describes_photographs(self):
        extractor = new_extractor()
        first = ["spatial.0.1", "backbone.bn1"]
        assert names(extractor, extractor.input_norms()) == first
        described = names(extractor, extractor.norms_with_image_statistics())
        assert set(first) < set(described)
        assert len(described) == len(set(described)) == 3 + 20
        others = set(names(extractor, norms(extractor))) - set(described)
        assert others == {"refine_middle.norm", "refine_deep.norm", "fusion.project.1"}


class TestSegmenter:
    def test_auxiliary_scores_in_training_only(self):
        segmenter = unsettle(segmenter_of([3, 2]))
        photographs = images(2, 64, 48)
        outputs = segmenter.train()(photographs)
        pairs = zip(segmenter.auxiliary, outputs.features.auxiliary, strict=True)
        for scores, (heads, seen) in zip(outputs.auxiliary, pairs, strict=True):
            small = [
                torch.einsum("oc,bchw->bohw", head.classifier.weight[:, :, 0, 0], seen)
                + head.classifier.bias[:, None, None]
                for head in heads
            ]
            expected = F.interpolate(torch.cat(small, 1), (64, 48), mode="bilinear")
            assert torch.allclose(scores, expected, rtol=1e-4, atol=1e-4)
        tested = segmenter.eval()(photographs)
        assert tested.auxiliary == tested.features.auxiliary == ()

    def test_one_iteration_of_training_reaches_every_weight(self):
        segmenter = segmenter_of([4, 1]).train()
        photographs, labels = images(2, 64, 64), torch.full((2, 64, 64), 4)

        def loss():
            outputs = segmenter(photographs)
            return sum(F.cross_entropy(z, labels) for z in (outputs.logits, *outputs.auxiliary))

        before = loss()
        before.backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in segmenter.parameters())
        torch.optim.SGD(segmenter.parameters(), lr=0.01).step()
        assert loss() < before

    def test_every_step_has_auxiliary_heads(self):
        segmenter = segmenter_of([3]).train()
        photographs = images(2, 32, 32)
        before = segmenter(photographs).auxiliary
        segmenter.grow(2)
        after = segmenter(photographs).auxiliary
        for heads, depth in zip(segmenter.auxiliary, (256, 512), strict=True):
            shapes = [tuple(head.classifier.weight.shape) for head in heads]
            assert shapes == [(3, depth, 1, 1), (2, depth, 1, 1)]
        for old, new in zip(before, after, strict=True):
            assert new.shape == (2, 5, 32, 32)
            assert torch.allclose(new[:, :3], old, rtol=1e-4, atol=1e-4)

    def test_the_classifier_s_first_weights_are_the_main_head_s_alone(self):
        segmenter = segmenter_of([3])
        segmenter.grow(2)
        before = state(segmenter)
        rule = {"part": "background"}
        build_part("cssegcore.method.classifier_init", ClassifierInit, rule, "x")(segmenter.groups)
        changed = {k for k, v in state(segmenter).items() if v != before[k]}
        ours = {"heads.0.classifier.bias", "heads.1.classifier.weight", "heads.1.classifier.bias"}
        assert changed == ours

    def test_a_weight_of_0_builds_no_auxiliary_classifier(self):
        segmenter = segmenter_of([3], auxiliary=0)
        segmenter.grow(1)
        assert segmenter.extractor.auxiliary_weight == 0
        assert segmenter.extractor.auxiliary_channels == ()
        assert not any(key.startswith("auxiliary") for key in segmenter.state_dict())
        outputs = segmenter.train()(images(2, 32, 32))
        assert outputs.auxiliary == outputs.features.auxiliary == ()
        assert new_extractor(auxiliary=0.4).auxiliary_weight == 0.4

    def test_scores_keep_their_digits_under_autocast(self):
        with torch.autocast("cpu", torch.bfloat16):
            outputs = segmenter_of([3]).train()(images(2, 32, 32))
        assert {z.dtype for z in (outputs.logits, *outputs.auxiliary)} == {torch.float32}

    def test_a_saved_model_is_the_same_model(self, tmp_path):
        from torchvision import models

        start = tmp_path / "start.pth"
        torch.save(models.resnet18(weights=None).state_dict(), start)
        recipe = R18 | {"backbone": resnet(18, start), "auxiliary": 0.5}
        classes = ClassTable.of([["background", "a"], ["b"]], [[0, 1], [2]])
        segmenter = unsettle(new_segmenter([2, 1], model=recipe))
        model = checkpoint.Model("step1", recipe, LINEAR, None, classes)
        checkpoint.save(tmp_path / "model.safetensors", segmenter, model, {})
        start.unlink()
        loaded = checkpoint.load_model(tmp_path / "model.safetensors", CPU)
        assert loaded.model == model
        assert state(loaded.segmenter) == state(segmenter)
        photographs = images(2, 33, 41)
        logits = loaded.segmenter(photographs).logits
        assert torch.equal(logits, segmenter.eval()(photographs).logits)
        again, first = (s.train()(photographs) for s in (loaded.segmenter, segmenter))
        assert len(again.auxiliary) == 2
        for got, expected in zip(again.auxiliary, first.auxiliary, strict=True):
            assert torch.equal(got, expected)


class TestRefusals:
    def test_one_image_a_batch_is_tested_but_not_trained(self):
        segmenter = segmenter_of([2])
        assert segmenter.eval()(images(1, 64, 64)).logits.shape == (1, 2, 64, 64)
        with pytest.raises(InputError, match=r"bisenet .* `optimizer\.batch_size` to 2 or more"):
            segmenter.train()(images(1, 64, 64))
        segmenter.keep_eval(norms(segmenter))
        assert len(segmenter.train()(images(1, 64, 64)).auxiliary) == 2

    @pytest.mark.parametrize(
        ("wrong", "message"),
        [
            ({"backbone": "resnet18"}, "`model.backbone` is 'resnet18', but a backbone is a part"),
            (
                {"backbone": {"part": "resnet", "depth": 34}},
                "`model.backbone.depth` must be one of",
            ),
            ({"auxiliary": -1}, "`model`: `auxiliary` must be a finite number >= 0, got -1.0"),
            ({"auxiliary": math.nan}, "`auxiliary` must be a finite number >= 0, got nan"),
            ({"auxiliary": math.inf}, "`auxiliary` must be a finite number >= 0, got inf"),
            ({"weights": "none"}, "`model.weights` is now `model.backbone.weights`: give it there"),
            ({"output_stride": 8}, "`model.output_stride` is not a key of `model`"),
        ],
    )
    def test_numbers(self, wrong, message):
        with pytest.raises(InputError, match=message):
            architecture(**wrong)

    @pytest.mark.parametrize("use", ["check", "extractor"])
    def test_a_backbone_without_stride_32(self, use):
        network = architecture(backbone={"part": "small"})
        with pytest.raises(
            InputError, match="the small backbone cannot end at stride 32"
        ) as refused:
            getattr(network, use)()
        assert "\n" not in str(refused.value)

    @pytest.mark.parametrize("use", ["check", "extractor"])
    def test_a_backbone_without_stride_16(self, use, monkeypatch):
        from cssegcore.models.backbones.small import SmallBackbone

        class Steep(Layers):
            strides, channels = (8, 32), (4, 4)

        monkeypatch.setattr(SmallBackbone, "fresh", lambda *_: Steep())
        network = architecture(backbone={"part": "small"})
        with pytest.raises(
            InputError, match=r"bisenet reads .* stride 16 and 32, .* have 8, 32: c"
        ):
            getattr(network, use)()


@pytest.mark.parametrize("depth", [18, 50, 101])
def test_the_choices_of_a_model(depth):
    composed = scenes.composed(f"model=bisenet_r{depth}")["model"]
    backbone = composed["backbone"]
    assert (composed["part"], composed["auxiliary"]) == ("bisenet", 1)
    assert (backbone["part"], backbone["depth"]) == ("resnet", depth)
    assert (backbone["style"], backbone["weights"]) == ("torchvision", "imagenet")
    network = build_part("cssegcore.models.architectures", Architecture, composed, "model")
    assert network.auxiliary == 1
