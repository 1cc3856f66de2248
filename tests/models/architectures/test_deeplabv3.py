"""DeepLabV3 with DKD's decoder; that of MiB is in tests/models/test_networks.py."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from cssegcore.core.class_table import ClassTable
from cssegcore.core.errors import InputError
from cssegcore.core.registry import build_part
from cssegcore.method.freeze.norms import Norms
from cssegcore.models._base import Architecture
from cssegcore.models.checkpoint import Model
from tests.helpers.tiny_training import BACKBONE

SMALL = {"part": "deeplabv3", "backbone": BACKBONE, "output_stride": 8, "depth": 8}
RESNET = {"part": "resnet", "depth": 101, "weights": "none", "batchnorm_momentum": 0.01}
PORT = {"part": "deeplabv3", "backbone": RESNET, "decoder": "concatenated"}
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
