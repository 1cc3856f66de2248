import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from cssegcore.core.errors import InputError
from cssegcore.core.normalization import IMAGENET, Normalization
from cssegcore.core.registry import build_part
from cssegcore.models._base import Architecture, FeatureExtractor
from cssegcore.models.backbones import Backbone
from cssegcore.models.fuse_batchnorm import fuse_batchnorm
from cssegcore.models.heads.conv import Conv
from cssegcore.models.heads.linear import Linear
from cssegcore.models.inference import infer
from cssegcore.models.outputs import Features
from cssegcore.models.segmenter import Segmenter, classify
from tests.helpers.tiny_training import BACKBONE, MODEL, Layers, new_segmenter

RESNET = {"part": "resnet", "depth": 50, "weights": "none"}
MAPILLARY = RESNET | {"style": "mapillary"}
BISENET = {"part": "bisenet", "backbone": RESNET | {"depth": 18}}
DEEPLAB = {"part": "deeplabv3", "backbone": RESNET}


def architecture(**recipe):
    return build_part("cssegcore.models.architectures", Architecture, recipe, "model")


def images(b, h, w):
    return torch.randn(b, 3, h, w, generator=torch.Generator().manual_seed(0))


class Photograph(FeatureExtractor):
    """Hands the photograph on, at a fourth of its size."""

    channels = last_stage_channels = 3
    backbone = Layers()

    def forward(self, images):
        pooled = F.avg_pool2d(images, 4)
        return Features((pooled,), pooled, pooled)


class Fixed(Backbone):
    """A backbone that computes the same of every photograph."""

    def __init__(self, tap):
        super().__init__()
        self.tap = tap

    def forward(self, images):
        return (self.tap,)

    def activation(self, features):
        return features.relu()


def sizes(segmenter):
    return [head.classifier.out_channels for head in segmenter.groups]


class TestSegmenter:
    def test_logits_are_those_of_the_heads_in_order_upsampled(self):
        segmenter = Segmenter(Photograph(), Linear(), [3, 1, 2])
        photographs = images(2, 8, 12)
        features = F.avg_pool2d(photographs, 4)
        heads = [
            torch.einsum("oc,bchw->bohw", layer.weight[:, :, 0, 0], features)
            + layer.bias[:, None, None]
            for layer in (head.classifier for head in segmenter.groups)
        ]
        small = torch.cat(heads, 1)
        expected = F.interpolate(small, (8, 12), mode="bilinear", align_corners=False)
        outputs = segmenter(photographs)
        assert torch.allclose(outputs.logits, expected, atol=1e-6)
        assert torch.allclose(outputs.logits_lowres, small, atol=1e-6)
        assert torch.equal(outputs.features.decoder_out, features)
        assert sizes(segmenter) == [3, 1, 2]

    def test_a_grown_head_comes_last_and_leaves_the_others_alone(self):
        segmenter = Segmenter(Photograph(), Linear(), [3])
        photographs = images(1, 8, 8)
        before = segmenter(photographs).logits
        for more in (1, 4):
            segmenter.grow(more)
        after = segmenter(photographs).logits
        assert sizes(segmenter) == [3, 1, 4]
        assert segmenter.outputs == segmenter.classes == 8
        assert torch.allclose(after[:, :3], before, atol=1e-6)
        assert after.shape == (1, 8, 8, 8)

    def test_a_grown_head_is_trained_too(self):
        segmenter = Segmenter(Photograph(), Linear(), [3])
        segmenter.grow(2)
        grown = {id(p) for p in segmenter.groups[-1].parameters()}
        assert grown
        assert grown <= {id(p) for p in segmenter.parameters() if p.requires_grad}

    def test_logits_keep_their_digits_under_autocast(self):
        with torch.autocast("cpu", torch.bfloat16):
            outputs = Segmenter(Photograph(), Linear(), [3])(images(1, 8, 8))
        assert outputs.logits.dtype == outputs.logits_lowres.dtype == torch.float32


class TestUnknown:
    @pytest.mark.parametrize("unknown", ["softmax", "sigmoid"])
    def test_it_and_the_background_have_heads_of_their_own(self, unknown):
        segmenter = Segmenter(Photograph(), Linear(), [4, 2], unknown)
        segmenter.grow(3)
        assert sizes(segmenter) == [1, 1, 3, 2, 3]
        assert (segmenter.outputs, segmenter.classes) == (10, 9)
        assert segmenter(images(1, 8, 8)).logits.shape == (1, 10, 8, 8)

    def scores(self, logits, unknown):
        if unknown == "sigmoid":
            return 1 / (1 + np.exp(-logits))
        raised = np.exp(logits - logits.max(1, keepdims=True))
        return raised / raised.sum(1, keepdims=True)

    @pytest.mark.parametrize("unknown", ["softmax", "sigmoid"])
    def test_its_score_joins_the_background_s(self, unknown):
        logits = np.random.default_rng(0).normal(0, 2, (2, 5, 30, 30))
        scores = self.scores(logits, unknown)
        expected = np.empty((2, 30, 30), int)
        for b, y, x in np.ndindex(expected.shape):
            unsure, background, *classes = scores[b, :, y, x]
            expected[b, y, x] = np.argmax([unsure + background, *classes])
        got = classify(torch.tensor(logits), unknown).numpy()
        assert np.array_equal(got, expected)
        assert set(np.unique(got)) == {0, 1, 2, 3}
        # the sum decides, not the larger of the two
        larger = np.concatenate([scores[:, :2].max(1, keepdims=True), scores[:, 2:]], 1)
        assert (larger.argmax(1) != expected).any()

    def test_without_it_the_largest_logit_wins(self):
        logits = torch.tensor(np.random.default_rng(1).normal(0, 2, (2, 5, 6, 7)))
        assert torch.equal(classify(logits, None), logits.argmax(1))

    def test_the_segmenter_classifies_by_what_it_knows(self):
        logits = torch.tensor([[1.0, 1.0, 1.5]]).reshape(1, 3, 1, 1)
        for unknown, expected in (("sigmoid", 0), ("softmax", 0), (None, 2)):
            segmenter = Segmenter(Photograph(), Linear(), [2], unknown)
            assert segmenter.classify(logits).item() == expected


class TestHeld:
    def test_what_is_held_stays_in_evaluation_mode(self):
        segmenter = new_segmenter([2]).train()
        norms = [m for m in segmenter.modules() if isinstance(m, nn.BatchNorm2d)]
        held, free = norms[:2], norms[2:]
        segmenter.hold(held)
        for _ in range(2):
            assert not any(norm.training for norm in held)
            assert all(norm.training for norm in free)
            assert segmenter.training
            segmenter.eval()
            assert not any(norm.training for norm in norms)
            segmenter.train()
        before = [norm.running_mean.clone() for norm in norms]
        segmenter(images(2, 16, 16))
        moved = [not torch.equal(a, n.running_mean) for a, n in zip(before, norms, strict=True)]
        assert moved == [norm in free for norm in norms]

    def test_to_hold_more_lets_nothing_go(self):
        segmenter = new_segmenter([2])
        first, second, *_ = (m for m in segmenter.modules() if isinstance(m, nn.BatchNorm2d))
        for norm in (first, second):
            segmenter.hold([norm])
        copied = copy.deepcopy(segmenter).train()
        norms = [m for m in copied.modules() if isinstance(m, nn.BatchNorm2d)]
        assert [norm.training for norm in norms[:3]] == [False, False, True]


class TestConvHead:
    def test_every_group_has_layers_of_its_own(self):
        segmenter = Segmenter(Photograph(), Conv(), [3, 2], "sigmoid").eval()
        assert sizes(segmenter) == [1, 1, 2, 2]
        photographs = images(1, 16, 16)
        before = segmenter(photographs).logits_lowres
        with torch.no_grad():
            for weight in segmenter.groups[2].parameters():
                weight.normal_()
        changed = (segmenter(photographs).logits_lowres != before).any((0, 2, 3))
        assert changed.tolist() == [False, False, True, True, False, False]

    def test_logits_are_those_of_the_formula(self):
        head = Conv().build(3, 2).eval()
        with torch.no_grad():
            head.norm.running_mean.normal_()
            head.norm.running_var.uniform_(0.5, 2)
            head.norm.weight.normal_()
            head.norm.bias.normal_()
        features = images(2, 5, 6)
        spread = F.conv2d(features, head.convolution.weight, padding=1)
        shift, scale = head.norm.running_mean, (head.norm.running_var + head.norm.eps).rsqrt()
        normed = (spread - shift[:, None, None]) * (scale * head.norm.weight)[:, None, None]
        normed = normed + head.norm.bias[:, None, None]
        layer = head.classifier
        expected = torch.einsum("oc,bchw->bohw", layer.weight[:, :, 0, 0], normed.clamp(min=0))
        assert torch.allclose(head(features), expected + layer.bias[:, None, None], atol=1e-5)


def check_features(extractor, photographs, strides):
    """Checks what features promise of any extractor."""
    features = extractor(photographs)
    assert [photographs.shape[-1] // tap.shape[-1] for tap in features.stages] == strides
    for tap in features.stages:  # none of them spoiled by an activation in place
        assert (tap < 0).any()
        assert (tap > 0).any()
    assert torch.equal(features.last_stage, features.stages[-1].clamp(min=0))
    assert features.last_stage.shape[1] == extractor.last_stage_channels
    assert features.decoder_out.shape[1] == extractor.channels
    total = (
        sum(tap.square().mean() for tap in features.stages) + features.decoder_out.square().mean()
    )
    total.backward()
    assert all(p.grad is not None for p in extractor.parameters())


class TestSmall:
    @pytest.mark.parametrize(("h", "w"), [(16, 16), (17, 23), (33, 40)])
    def test_any_size_gives_logits_of_that_size(self, h, w):
        segmenter = new_segmenter([3, 2]).eval()
        assert segmenter(images(1, h, w)).logits.shape == (1, 5, h, w)

    def test_output_stride_and_depth(self):
        extractor = architecture(**MODEL).extractor()
        assert extractor.channels == MODEL["depth"]
        assert extractor(images(2, 64, 48)).decoder_out.shape == (2, MODEL["depth"], 8, 6)

    def test_features(self):
        extractor = architecture(**MODEL).extractor()
        inputs = []
        for block in extractor.backbone.blocks:
            block.register_forward_pre_hook(lambda _, given: inputs.append(given[0]))
        check_features(extractor, images(2, 64, 64), [4, 8, 8])
        stages = extractor(images(2, 64, 64)).stages
        for tap, following in zip(stages, inputs[4:], strict=False):  # of the second pass
            assert torch.equal(following, tap.clamp(min=0))

    def reach(self, extractor, size, at):
        """Tells which pixels the features at a place depend on."""
        photographs = images(1, size, size).requires_grad_()
        seen = extractor(photographs).decoder_out[0, :, at, at].sum()
        (grad,) = torch.autograd.grad(seen, photographs)
        return (grad != 0).any(1)[0]

    def extractor(self, **changed):
        torch.manual_seed(0)
        return architecture(part="small", backbone={"part": "small"} | changed).extractor().eval()

    def test_context_reaches_every_pixel_once_it_is_learned(self):
        extractor = self.extractor()
        assert not self.reach(extractor, 128, 0)[-1, -1]
        nn.init.ones_(extractor.context.weight)
        assert self.reach(extractor, 128, 0)[-1, -1]

    def test_dilation_widens_the_view(self):
        narrow, wide = (self.reach(self.extractor(dilation=n), 192, 12).sum() for n in (1, 3))
        assert wide > narrow

    @pytest.mark.parametrize(
        ("wrong", "limit"),
        [
            ({"dilation": 0}, "1, got 0"),
            ({"stem": [8, 7]}, "8: .* past the end of its memory"),
            ({"widths": [8, 0, 8]}, "8: .* past the end of its memory"),
        ],
    )
    def test_refusals(self, wrong, limit):
        with pytest.raises(InputError, match=rf"`model\.backbone`: .* must be >= {limit}"):
            architecture(**MODEL | {"backbone": BACKBONE | wrong})
        with pytest.raises(InputError, match=r"`model`: `depth` must be >= 1, got 0"):
            architecture(**MODEL | {"depth": 0})

    @pytest.mark.parametrize("key", ["stem", "widths", "dilation"])
    def test_a_key_of_before_is_answered_with_its_new_name(self, key):
        with pytest.raises(InputError, match=rf"`model\.{key}` is now `model\.backbone\.{key}`"):
            architecture(part="small", depth=8, **{key: 1})

    def test_it_takes_any_backbone(self):
        torch.manual_seed(0)
        network = architecture(part="small", backbone=RESNET, depth=8, output_stride=32)
        network.check()
        extractor = network.extractor()
        check_features(extractor, images(2, 64, 64), [4, 8, 16, 32])
        assert extractor(images(2, 64, 64)).decoder_out.shape == (2, 8, 2, 2)

    def test_the_images_are_normalised_as_for_its_backbone(self):
        assert new_segmenter([2]).normalization == IMAGENET
        other = {"mean": [0.5, 0.4, 0.3], "std": [0.1, 0.2, 0.3]}
        model = MODEL | {"backbone": BACKBONE | {"normalization": other}}
        segmenter = new_segmenter([2], model=model)
        expected = Normalization((0.5, 0.4, 0.3), (0.1, 0.2, 0.3))
        assert segmenter.normalization == segmenter.extractor.normalization == expected


class TestDeepLab:
    @pytest.mark.parametrize(("stride", "side"), [(16, 5), (8, 9)])
    def test_feature_stride_and_one_iteration_of_training(self, stride, side):
        torch.manual_seed(0)
        recipe = DEEPLAB | {"output_stride": stride, "depth": 32}
        segmenter = new_segmenter([4, 1], model=recipe)
        photographs = images(2, 65, 65)
        outputs = segmenter(photographs)
        logits = outputs.logits
        assert outputs.features.decoder_out.shape == (2, 32, side, side)
        assert logits.shape == (2, 5, 65, 65)

        labels = torch.full((2, 65, 65), 4)
        loss = F.cross_entropy(logits, labels)
        loss.backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in segmenter.parameters())
        torch.optim.SGD(segmenter.parameters(), lr=0.01).step()
        assert F.cross_entropy(segmenter(photographs).logits, labels) < loss

    def test_features(self):
        torch.manual_seed(0)
        extractor = architecture(**DEEPLAB | {"depth": 8}).extractor()
        check_features(extractor, images(2, 64, 64), [4, 8, 16, 16])

    def test_one_image_a_batch_is_tested_but_not_trained(self):
        segmenter = new_segmenter([2], model=DEEPLAB)
        assert segmenter.eval()(images(1, 65, 65)).logits.shape == (1, 2, 65, 65)
        with pytest.raises(InputError, match=r"`optimizer\.batch_size` to 2 or more"):
            segmenter.train()(images(1, 65, 65))

    @pytest.mark.parametrize("size", [(35, 34), (33, 8), (7, 33), (32, 5)])
    def test_the_pooled_branch_sees_windows_in_evaluation(self, size):
        torch.manual_seed(0)
        extractor = architecture(**DEEPLAB | {"depth": 8}).extractor().eval()
        h, w = size
        tap = torch.randn(1, 2048, h, w) + torch.linspace(0, 3, w)
        extractor.backbone = Fixed(tap)
        decoder, body = extractor.decoder, tap.clamp(min=0)
        with torch.no_grad():
            for norm in (m for m in decoder.modules() if isinstance(m, nn.BatchNorm2d)):
                norm.running_mean.normal_()
            spread = torch.cat([branch(body) for branch in decoder.branches], 1)
            spread = decoder.project(decoder.branches_norm(spread))
            high, wide = min(h, 32), min(w, 32)
            pooled = torch.empty(1, 2048, h, w)
            for y in range(h):  # an even window has one more on its right and below
                top = min(max(y - (high - 1) // 2, 0), h - high)
                for x in range(w):
                    left = min(max(x - (wide - 1) // 2, 0), w - wide)
                    seen = body[..., top : top + high, left : left + wide]
                    pooled[..., y, x] = seen.mean((2, 3))
            pooled = decoder.pooled_project(decoder.pooled_norm(decoder.pooled(pooled)))
            expected = decoder.norm(spread + pooled)
            assert torch.allclose(extractor(images(1, 16, 16)).decoder_out, expected, atol=1e-4)
            means = decoder.pooled(body.mean((2, 3), keepdim=True))
            whole = decoder.pooled_project(decoder.pooled_norm(means))
            same = torch.allclose(decoder.norm(spread + whole), expected, atol=1e-4)
            assert same == (max(size) <= 32)

    def test_the_pooled_branch_sees_everything_in_training(self):
        torch.manual_seed(0)
        extractor = architecture(**DEEPLAB | {"depth": 8}).extractor()
        extractor.backbone = Fixed(torch.randn(2, 2048, 34, 3))
        seen = []
        extractor.decoder.pooled.register_forward_hook(lambda *told: seen.append(told[1][0]))
        extractor(images(2, 16, 16))
        (given,) = seen
        assert given.shape == (2, 2048, 1, 1)
        means = extractor.backbone.tap.clamp(min=0).mean((2, 3))
        assert torch.allclose(given[..., 0, 0], means, atol=1e-6)

    @pytest.mark.parametrize(
        ("wrong", "message"),
        [
            ({"output_stride": 4}, "`model.output_stride` must be one of 16, 8"),
            (
                {"backbone": "resnet50"},
                "`model.backbone` is 'resnet50', but a backbone is a part: ",
            ),
            ({"backbone": {"depth": 50}}, "`model.backbone` must be a mapping with a key `part`"),
            ({"backbone": {"part": "resnett"}}, "no part 'resnett' in .* Did you mean `resnet`"),
            ({"weights": "imagenet"}, "`model.weights` is now `model.backbone.weights`: give it"),
            ({"style": "mapillary"}, "`model.style` is now `model.backbone.style`: give it there"),
            ({"sha256": ""}, "`model.sha256` is now `model.backbone.sha256`: give it there"),
            ({"depth": 0}, "`model`: `depth` must be >= 1, got 0"),
        ],
    )
    def test_refusals(self, wrong, message):
        with pytest.raises(InputError, match=message) as refused:
            architecture(**DEEPLAB | wrong)
        assert "\n" not in str(refused.value)

    @pytest.mark.parametrize("use", ["check", "extractor"])
    @pytest.mark.parametrize(
        ("backbone", "strides"),
        [(RESNET | {"depth": 18}, "4, 8, 16, 32"), ({"part": "small"}, "4, 8, 8")],
    )
    def test_a_backbone_whose_stride_does_not_fit(self, backbone, strides, use):
        network = architecture(**DEEPLAB | {"backbone": backbone})
        expected = rf"`model\.backbone`: .* cannot end at stride 16.* strides {strides}\. Set"
        with pytest.raises(InputError, match=expected) as refused:
            getattr(network, use)()
        assert "\n" not in str(refused.value)

    def test_the_small_backbone_fits_at_its_stride(self):
        torch.manual_seed(0)
        network = architecture(part="deeplabv3", backbone=BACKBONE, output_stride=8, depth=8)
        network.check()
        extractor = network.extractor()
        check_features(extractor, images(2, 64, 64), [4, 8, 8])
        assert extractor.decoder.pooled.in_channels == BACKBONE["widths"][-1]


class TestFolded:
    @staticmethod
    def stirred(**recipe):
        """A segmenter whose normalisations do something."""
        torch.manual_seed(0)
        segmenter = Segmenter(architecture(**recipe).extractor(), Conv(), [3, 1])
        for module in segmenter.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.2)
                module.running_var.uniform_(0.5, 2)
                nn.init.uniform_(module.weight, -1, 1.5)
                nn.init.normal_(module.bias, 0, 0.2)
        return segmenter.eval()

    @pytest.mark.parametrize(
        ("recipe", "left"),
        [
            (MODEL, 1),  # sees a sum
            (DEEPLAB, 2),  # see four convolutions and a sum
            (DEEPLAB | {"backbone": MAPILLARY}, 2),
            (BISENET, 4),  # auxiliary heads sleep
        ],
    )
    def test_it_says_the_same_and_has_fewer_layers(self, recipe, left):
        segmenter = self.stirred(**recipe)
        quick, seen = fuse_batchnorm(segmenter), images(2, 48, 80)
        with torch.no_grad():
            got, wanted = quick(seen), segmenter(seen)
        for mine, theirs in zip(got.features.stages, wanted.features.stages, strict=True):
            assert torch.allclose(mine, theirs, rtol=1e-4, atol=1e-4 * theirs.abs().max())
        assert torch.allclose(got.logits, wanted.logits, rtol=1e-3, atol=1e-4)
        norms = sum(isinstance(m, nn.BatchNorm2d) for m in quick.modules())
        assert norms == left + len(quick.heads)  # which fold theirs while they run
        assert not any(p.requires_grad for p in quick.parameters())

    def test_it_is_a_copy(self):
        segmenter = self.stirred(**MODEL)
        before, quick = (
            fuse_batchnorm(segmenter)(images(1, 32, 32)).logits,
            fuse_batchnorm(segmenter),
        )
        with torch.no_grad():
            for weight in segmenter.parameters():
                weight.add_(1)
        assert torch.equal(quick(images(1, 32, 32)).logits, before)

    def test_a_trunk_that_stands_still_is_run_folded_and_saved_as_it_is(self):
        segmenter = self.stirred(**MODEL)
        names, wanted = list(segmenter.state_dict()), segmenter(images(1, 32, 32)).logits
        ran = []
        for module in segmenter.extractor.modules():
            module.register_forward_hook(lambda *_: ran.append(1))
        segmenter.fuse_batchnorm()
        ran.clear()
        assert torch.allclose(segmenter(images(1, 32, 32)).logits, wanted, atol=1e-5)
        assert list(segmenter.state_dict()) == names
        assert len(list(segmenter.parameters())) == len(set(segmenter.parameters()))


def test_what_is_observed_takes_part_in_losses():
    old, new = new_segmenter([3]).eval(), new_segmenter([3]).eval()
    modes = []
    old.register_forward_hook(lambda *_: modes.append(torch.is_inference_mode_enabled()))
    seen = infer(old, images(2, 24, 40))
    assert modes == [True]
    with torch.no_grad():
        wanted = old(images(2, 24, 40))
    learning = new(images(2, 24, 40))
    pairs = [
        *zip(seen.features.stages, wanted.features.stages, learning.features.stages, strict=True),
        (seen.features.decoder_out, wanted.features.decoder_out, learning.features.decoder_out),
        (seen.logits, wanted.logits, learning.logits),
    ]
    for got, same, other in pairs:
        assert torch.equal(got, same)
        assert got.stride() == same.stride()
        assert not got.requires_grad
        (got * other).sum().backward(retain_graph=True)  # keeps `got` for the backward pass
    assert all(p.grad is None for p in old.parameters())
    assert new.extractor.backbone.stem[0][0].weight.grad.abs().sum() > 0
