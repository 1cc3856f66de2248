"""ResNets are torchvision's but for the last activation of a stage."""

import pytest
import torch
from torch import nn

from cssegcore.core.errors import InputError
from cssegcore.core.normalization import IMAGENET
from cssegcore.models.backbones import backbone_kind


def kind(depth, **changed):
    return backbone_kind({"part": "resnet", "depth": depth, "weights": "none"} | changed)


def unsettle(network):
    for norm in (m for m in network.modules() if isinstance(m, nn.BatchNorm2d)):
        for value in (norm.weight.data, norm.running_var):
            value.uniform_(0.5, 1)
        for value in (norm.bias.data, norm.running_mean):
            value.normal_(0, 0.1)
    return network.eval()


@pytest.mark.parametrize(("depth", "stride"), [(18, 32), (50, 32), (50, 16), (50, 8)])
@pytest.mark.slow
def test_stages_are_torchvision_s_but_for_the_last_activation(depth, stride, tmp_path):
    from torchvision import models

    torch.manual_seed(0)
    dilate = [False, stride == 8, stride <= 16]
    theirs = unsettle(
        models.get_model(f"resnet{depth}", weights=None, replace_stride_with_dilation=dilate)
    )
    torch.save(theirs.state_dict(), tmp_path / "w.pth")
    given = []
    for layer in (theirs.layer1, theirs.layer2, theirs.layer3, theirs.layer4):
        layer.register_forward_hook(lambda *told: given.append(told[2]))
    backbone = kind(depth, weights=str(tmp_path / "w.pth")).build(stride).eval()
    images = torch.randn(2, 3, 65, 49)
    with torch.no_grad():
        theirs(images)
        features = backbone(images)
    assert len(features) == len(given) == 4
    for feature, expected in zip(features, given, strict=True):
        assert torch.allclose(backbone.activation(feature), expected, rtol=1e-4, atol=1e-5)
        assert torch.equal(backbone.activation(feature), feature.clamp(min=0))
        assert (expected > 0).any()
        assert (feature < 0).any()


def test_strides_become_dilations_from_the_end():
    def layout(stride):
        convolutions = [m for m in kind(50).outline(stride).modules() if isinstance(m, nn.Conv2d)]
        return [m.dilation[0] for m in convolutions if m.kernel_size == (3, 3)]

    blocks = [1] * (3 + 4)  # 3, 4, 6 and 3 blocks of a ResNet-50
    assert layout(32) == [1] * 16
    assert layout(16) == [*blocks, *[1] * 6, 1, 2, 2]
    assert layout(8) == [*blocks, 1, *[2] * 5, 2, 4, 4]


def test_keys_are_torchvision_s():
    from torchvision import models

    with torch.device("meta"):
        theirs = [k for k in models.resnet18(weights=None).state_dict() if not k.startswith("fc.")]
    assert list(kind(18).outline(32).state_dict()) == theirs


def test_images_are_normalised_as_torchvision_s():
    assert kind(18).outline(32).normalization == IMAGENET


@pytest.mark.parametrize("depth", [18, 101])
def test_channels(depth):
    wide = 1 if depth == 18 else 4
    assert kind(depth).outline(32).channels == (64 * wide, 128 * wide, 256 * wide, 512 * wide)


def test_blocks_of_resnet18_cannot_be_dilated():
    with pytest.raises(InputError, match=r"resnet18 cannot end at stride 16, .* 4, 8, 16, 32"):
        kind(18).outline(16)


def test_depths_that_there_are_not():
    with pytest.raises(InputError, match=r"`model\.backbone\.depth` must be one of 18, 50, 101;"):
        kind(34)
