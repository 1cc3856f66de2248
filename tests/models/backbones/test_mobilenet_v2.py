"""MobileNetV2 is torchvision's up to its last bottleneck."""

import pytest
import torch
from torch import nn

from cssegcore.core.registry import build_part
from cssegcore.models._base import Architecture
from cssegcore.models.backbones import backbone_kind
from tests.helpers import cat_photographs as cats
from tests.helpers import shared_data as shared

FILE = "weights/mobilenet_v2_imagenet_dequantised.pth"
SCALED = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}
"""Images of -1 to 1."""


def kind(**changed):
    return backbone_kind({"part": "mobilenet_v2", "weights": "none"} | changed)


def test_features_are_torchvision_s(tmp_path):
    from torchvision import models

    torch.manual_seed(0)
    theirs = models.mobilenet_v2(weights=None).eval()
    torch.save(theirs.state_dict(), tmp_path / "w.pth")
    backbone = kind(weights=str(tmp_path / "w.pth")).build(32).eval()
    images = torch.randn(2, 3, 65, 97)
    with torch.no_grad():
        got = backbone(images)
        expected, features = [], images
        for i, layer in enumerate(theirs.features):
            features = layer(features)
            if i in (3, 6, 13, 17):
                expected.append(features)
    assert all(map(torch.equal, got, expected))
    assert backbone.channels == (24, 32, 96, 320)
    assert all(backbone.activation(feature) is feature for feature in got)


def test_strides_become_dilations_from_the_end():
    def layout(stride):
        convolutions = [m for m in kind().outline(stride).modules() if isinstance(m, nn.Conv2d)]
        spatial = [m for m in convolutions if m.kernel_size == (3, 3)]
        assert all(m.padding == m.dilation for m in spatial)
        return [m.dilation[0] for m in spatial], [m.stride[0] for m in spatial]

    first = [2, 1, 2, 1, 2, 1, 1]
    assert layout(32) == ([1] * 18, [*first, 2, *[1] * 6, 2, 1, 1, 1])
    assert layout(16) == ([*[1] * 15, 2, 2, 2], [*first, 2, *[1] * 10])
    assert layout(8) == ([*[1] * 8, *[2] * 7, 4, 4, 4], [*first, *[1] * 11])


@pytest.mark.slow
def test_cats_are_cats():
    from torchvision import models

    path = shared.data(FILE)
    reading = kind(weights=str(path), normalization=SCALED, sha256="95637886")
    reading.check(32)
    backbone = reading.build(32).eval()
    whole = models.mobilenet_v2(weights=None).eval()
    whole.load_state_dict(torch.load(path, weights_only=True))
    with torch.no_grad():
        last = backbone(cats.normalised(cats.photographs(), backbone.normalization))[-1]
        pooled = whole.features[18](last).mean((2, 3))
        seen = whole.classifier(pooled).argmax(1)
    assert sum(label in cats.CATS for label in seen.tolist()) >= 0.7 * cats.COUNT


@pytest.mark.parametrize("stride", [16, 8])
def test_it_is_deeplab_s_backbone_with_pretrained_weights(stride):
    path = shared.data(FILE)
    backbone = {"part": "mobilenet_v2", "weights": str(path), "normalization": SCALED}
    recipe = {"part": "deeplabv3", "backbone": backbone, "output_stride": stride, "depth": 16}
    network = build_part("cssegcore.models.architectures", Architecture, recipe, "model")
    network.check()
    extractor = network.extractor()
    assert extractor.normalization.mean == (0.5, 0.5, 0.5)
    features = extractor(torch.randn(2, 3, 64, 64))
    assert features.decoder_out.shape == (2, 16, 64 // stride, 64 // stride)
    assert torch.equal(features.last_stage, features.stages[-1])
    stored = torch.load(path, weights_only=True)
    last = extractor.backbone.state_dict()["features.17.conv.2.weight"]
    assert torch.equal(last, stored["features.17.conv.2.weight"])
