"""torchvision's ResNets without their classifier, and the ones that MiB and PLOP were published on.

He et al., Deep Residual Learning for Image Recognition, CVPR 2016,
https://arxiv.org/abs/1512.03385.
"""

import dataclasses
from typing import Any, Literal, final

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from cssegcore.models.backbones._base import Backbone, BackboneKind
from cssegcore.models.backbones._inplace_abn import of_inplace_abn
from cssegcore.models.backbones._torchvision import imagenet_weights

RELEASED = {
    50: "ResNet50v1 in the README of github.com/mapillary/inplace_abn",
    101: "release v1.0 of github.com/arthurdouillard/CVPR2021_PLOP",
}
"""Sources of the in-place ABN weights, by depth."""
_LEAK = 0.01
"""Slope of the style mapillary's activations below 0."""


@final
@dataclasses.dataclass(frozen=True, kw_only=True)
class ResNet(BackboneKind):
    """Depth and style.

    Attributes:
        depth: 18, 50 or 101 layers. Strides of 18 cannot become dilations.
        style: Variant. `torchvision`: ReLU, and the first block of a dilated stage has the
            dilation of the stage before. `mapillary`, on which MiB and PLOP were published
            (https://github.com/fcdl94/MiB, models/resnet.py, modules/residual.py): leaky ReLU, and
            all blocks of the stage are dilated. There, in-place ABN is trained with |gamma| + eps
            for a scale; here it is a plain normalisation and an activation. Its file is an in-place
            ABN checkpoint (`resnet101_iabn_sync.pth.tar`).
    """

    UNUSED = ("fc.", "classifier.")

    depth: Literal[18, 50, 101] = 101
    style: Literal["torchvision", "mapillary"] = "torchvision"

    @property
    def has_download(self) -> bool:
        return self.style == "torchvision"

    @property
    def title(self) -> str:
        whose = {"torchvision": "torchvision's", "mapillary": "in-place ABN's"}[self.style]
        return f"{whose} resnet{self.depth}"

    @property
    def way(self) -> str:
        if self.style == "torchvision":
            return super().way
        if self.depth not in RELEASED:
            return "nobody has published any; give `none` to train from scratch"
        return (
            f"fetch resnet{self.depth}_iabn_sync.pth.tar ({RELEASED[self.depth]}) and give its"
            " path, or `none` to train from scratch"
        )

    def fresh(self, output_stride: int) -> Backbone:
        from torchvision import models  # slow to import; only real backbones pay for it

        dilate = [False, output_stride <= 8, output_stride <= 16]
        if self.depth == 18:
            dilate = [False, False, False]
        name = f"resnet{self.depth}"
        network: Any = models.get_model(name, weights=None, replace_stride_with_dilation=dilate)
        stages = (network.layer1, network.layer2, network.layer3, network.layer4)
        if self.style == "mapillary":
            for module in [m for m in network.modules() if hasattr(m, "relu")]:
                module.relu = nn.LeakyReLU(_LEAK, inplace=True)
            for stage in stages:
                first, second = stage[0].conv2, stage[1].conv2
                first.dilation, first.padding = second.dilation, second.padding
        strides = (4, 8, 8 if dilate[1] else 16, 8 if dilate[1] else 16 if dilate[2] else 32)
        return _ResNet(network, strides, _LEAK if self.style == "mapillary" else 0.0)

    def download(self) -> dict[str, Tensor]:
        return imagenet_weights(f"resnet{self.depth}")

    def translated(self, stored: dict[str, Tensor]) -> dict[str, Tensor]:
        foreign = any("mod1.conv1." in key for key in stored)
        if self.style == "mapillary":
            if not foreign:
                raise ValueError("it holds no in-place ABN checkpoint, so `style` is torchvision")
            return of_inplace_abn(stored)
        if foreign:
            raise ValueError("it is in-place ABN's, which is read with `style: mapillary`")
        return stored


class _ResNet(Backbone):
    """The stem's layers and the four stages, under torchvision's keys.

    Published stages end with an activation; here the next stage begins with it, so `activation` of
    the last sum is what the published network pools.
    """

    def __init__(self, network: Any, strides: tuple[int, ...], leak: float) -> None:  # noqa: ANN401
        super().__init__()
        self.strides, self._leak = strides, leak
        self.conv1, self.bn1, self.relu = network.conv1, network.bn1, network.relu
        self.maxpool = network.maxpool
        self.layer1, self.layer2 = _Stage(*network.layer1), _Stage(*network.layer2)
        self.layer3, self.layer4 = _Stage(*network.layer3), _Stage(*network.layer4)
        inner = [network.layer1, network.layer2, network.layer3, network.layer4]
        self.channels = tuple(stage[0].conv1.out_channels * stage[0].expansion for stage in inner)

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> tuple[Float[Tensor, "b _ _ _"], ...]:
        first = self.layer1(self.maxpool(self.relu(self.bn1(self.conv1(images)))))
        sums = [first]
        for stage in (self.layer2, self.layer3, self.layer4):
            sums.append(stage(self.activation(sums[-1])))
        return tuple(sums)

    def activation(self, features: Float[Tensor, "b n h w"]) -> Float[Tensor, "b n h w"]:
        return F.leaky_relu(features, self._leak) if self._leak else F.relu(features)


class _Stage(nn.Sequential):
    """A stage of torchvision's ResNet that stops before its last activation.

    Same children and so the same keys in a state dict. The sum of the last block is kept for losses
    that compare it, so its activation must not happen in place.
    """

    def forward(self, input: Float[Tensor, "b n h w"]) -> Float[Tensor, "b m hs ws"]:
        blocks: list[Any] = list(self)
        features, last = input, blocks.pop()
        for block in blocks:
            features = block(features)
        path = last.bn2(last.conv2(last.relu(last.bn1(last.conv1(features)))))
        if hasattr(last, "conv3"):  # a bottleneck; the blocks of ResNet-18 have two convolutions
            path = last.bn3(last.conv3(last.relu(path)))
        shortcut = features if last.downsample is None else last.downsample(features)
        return path + shortcut
