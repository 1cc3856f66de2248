"""DeepLabV3 with DKD's decoder, and below with MiB's."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from cssegcore.core.class_table import ClassTable
from cssegcore.core.errors import InputError
from cssegcore.core.registry import build_part
from cssegcore.method.freeze.norms import Norms
from cssegcore.models._base import Architecture
from cssegcore.models.backbones import Backbone
from cssegcore.models.checkpoint import Model
from tests.helpers.networks import DEEPLAB, RESNET, architecture, check_features, images
from tests.helpers.tiny_training import BACKBONE, new_segmenter

SMALL = {"part": "deeplabv3", "backbone": BACKBONE, "output_stride": 8, "depth": 8}
RESNET101 = {"part": "resnet", "depth": 101, "weights": "none", "batchnorm_momentum": 0.01}
PORT = {"part": "deeplabv3", "backbone": RESNET101, "decoder": "concatenated"}
VOC = ClassTable.of(
    [["background", *(f"class {n}" for n in range(15))], ["pottedplant"]], [range(16), [16]]
)


def extractor(**changed):
    torch.manual_seed(0)
    recipe = SMALL | {"decoder": "concatenated"} | changed
    return build_part("cssegcore.models.architectures", Architecture, recipe, "m").extractor()


def body(made, side=9, images=2):
    return torch.randn(images, made.last_stage_channels, side, side).relu()


def plain(decoder, seen):
    """Computes the decoder in evaluation, branch by branch."""

    def layer(convolution, norm, x, rate=1):
        pad = rate * (convolution.kernel_size[0] // 2)
        x = F.conv2d(x, convolution.weight, padding=pad, dilation=rate)
        scale = norm.weight / (norm.running_var + norm.eps).sqrt()
        return ((x - norm.running_mean[:, None, None]) * scale[:, None, None]).relu()

    rates = (1, 12, 24, 32)
    each = [layer(b[0], b[1], seen, r) for b, r in zip(decoder.branches, rates, strict=True)]
    mean = seen.mean((2, 3), keepdim=True)
    pooled = layer(decoder.pooled, decoder.pooled_norm[0], mean)
    size = seen.shape[-2:]
    each.append(F.interpolate(pooled, size, mode="bilinear"))
    joined = layer(decoder.project[0], decoder.project[1], torch.cat(each, 1))
    return layer(decoder.last[0], decoder.last[1], joined)


class TestConcatenated:
    def test_five_branches_side_by_side(self):
        made = extractor().eval()
        for norm in (m for m in made.decoder.modules() if isinstance(m, nn.BatchNorm2d)):
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2)
        with torch.no_grad():
            for side in (9, 40):  # the mean is of all places, however many
                seen = body(made, side)
                found = made.decoder(seen)
                assert torch.allclose(found, plain(made.decoder, seen), atol=1e-5)
                assert (found >= 0).all()

    def test_a_tenth_is_dropped_in_training(self):
        made = extractor(depth=64)
        dropped = []
        made.decoder.dropout.register_forward_hook(lambda _, seen, out: dropped.append((seen, out)))
        made.decoder(body(made))
        (((before,), after),) = dropped
        alive = before != 0
        share = (after[alive] == 0).float().mean().item()
        assert share == pytest.approx(0.1, abs=0.02)
        assert torch.allclose(after[alive & (after != 0)], (before / 0.9)[alive & (after != 0)])
        made.eval().decoder(body(made))
        assert torch.equal(dropped[-1][0][0], dropped[-1][1])

    def test_one_image_can_train_where_norms_stand_still(self):
        made, photograph = extractor(), torch.randn(1, 3, 32, 32)
        with pytest.raises(InputError, match="cannot train on one image a batch"):
            made.train()(photograph)
        for module in made.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        made(photograph)


@pytest.mark.slow
class TestCounts:
    """Weights of the released networks on VOC 15-1, counted without memory."""

    def network(self, background, table):
        head = {"part": "linear", "init": "kaiming"}
        with torch.device("meta"):
            return Model("x", PORT, head, None, table, background).segmenter()

    @pytest.mark.parametrize(
        ("background", "all_of_it", "old"),
        [("auxiliary", 58_629_712, 4112), ("rejected", 58_629_455, 3855)],
    )
    def test_of_dkd_and_star(self, background, all_of_it, old):
        base = self.network(background, VOC.old)
        backbone, decoder = base.extractor.backbone, base.extractor.decoder
        assert [count(m) for m in (backbone, decoder)] == [42_500_160, 16_125_440]
        assert [kinds(m) for m in (backbone, decoder)] == [(104, 104), (7, 7)]
        assert count(base) == all_of_it
        momenta = {
            n.startswith("extractor.backbone"): m.momentum
            for n, m in base.named_modules()
            if isinstance(m, nn.BatchNorm2d)
        }
        assert momenta == {True: 0.01, False: 0.1}
        dilated = [block.conv2.dilation for block in backbone.layer4]
        assert dilated == [(1, 1), (2, 2), (2, 2)]

        step1 = self.network(background, VOC)
        Norms("newest")(step1)
        *before, newest = step1.groups
        parts = (step1.extractor.backbone, step1.extractor.decoder, nn.ModuleList(before), newest)
        assert [learned(part) for part in parts] == [42_394_816, 16_121_856, old, 257]


def count(module):
    return sum(weight.numel() for weight in module.parameters())


def learned(module):
    return sum(weight.numel() for weight in module.parameters() if weight.requires_grad)


def kinds(module):
    modules = list(module.modules())
    return tuple(sum(isinstance(m, k) for m in modules) for k in (nn.Conv2d, nn.BatchNorm2d))


def test_an_unknown_decoder_is_refused():
    with pytest.raises(InputError, match=r"`m\.decoder` must be one of summed, concatenated"):
        extractor(decoder="joined")


class Fixed(Backbone):
    """A backbone that computes the same of every photograph."""

    def __init__(self, tap):
        super().__init__()
        self.tap = tap

    def forward(self, images):
        return (self.tap,)

    def activation(self, features):
        return features.relu()


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
