"""DeepLabV3 on torchvision's ResNets.

Chen et al., Rethinking Atrous Convolution for Semantic Image Segmentation, 2017,
https://arxiv.org/abs/1706.05587. The decoder is the one that the MiB family published its numbers
with: the pooled branch is added to the projected convolutions instead of concatenated, activations
are leaky, and there is no dropout.
"""

import dataclasses
from typing import Literal, final

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from cssegcore.errors import InputError
from cssegcore.networks._base import Architecture, Trunk
from cssegcore.networks._resnet import check_name, check_weights, resnet
from cssegcore.outputs import Features

LEAK = 0.01
RATES = {16: (6, 12, 18), 8: (12, 24, 32)}
"""Dilations of the decoder by output stride; 32 (not 36) as the MiB family published it."""


@final
@dataclasses.dataclass(frozen=True)
class DeepLabV3(Architecture):
    """Backbone, output stride and starting weights.

    Attributes:
        backbone: Which of torchvision's ResNets; those whose blocks can be dilated.
        output_stride: 16 or 8.
        weights: `none` (from scratch), `imagenet` (torchvision's, downloaded or cached), or the
            path of a state dict of that torchvision network.
        depth: Channels d of the decoder.
    """

    backbone: Literal["resnet50", "resnet101"] = "resnet101"
    output_stride: Literal[16, 8] = 16
    weights: str = "imagenet"
    depth: int = 256

    def __post_init__(self) -> None:
        if self.depth < 1:
            raise ValueError(f"`depth` must be >= 1, got {self.depth}")
        check_name(self.backbone, self.weights)

    def check(self) -> None:
        check_weights(self.backbone, self.weights)

    def trunk(self) -> Trunk:
        return _DeepLabTrunk(self)


class _DeepLabTrunk(Trunk):
    def __init__(self, numbers: DeepLabV3) -> None:
        super().__init__()
        self.channels, self.body_channels = numbers.depth, 2048
        dilate = (False, numbers.output_stride == 8, True)
        self.backbone = resnet(numbers.backbone, numbers.weights, dilate)
        self.decoder = _Decoder(2048, numbers.depth, RATES[numbers.output_stride])

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Features:
        if self.decoder.pooled_norm[0].training and len(images) == 1:
            raise InputError(
                "deeplabv3 cannot train on one image a batch, whose pooled features have no"
                " variance: set `optimizer.batch_size` to 2 or more and give the step two images."
            )
        taps = self.backbone(images)
        body = F.relu(taps[-1])
        return Features(taps, body, self.decoder(body))


class _Decoder(nn.Module):
    """Atrous spatial pyramid pooling, summed with a pooled branch."""

    def __init__(self, inputs: int, depth: int, rates: tuple[int, int, int]) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            [nn.Conv2d(inputs, depth, 1, bias=False)]
            + [nn.Conv2d(inputs, depth, 3, 1, r, r, bias=False) for r in rates]
        )
        self.branches_norm = _activated(4 * depth)
        self.project = nn.Conv2d(4 * depth, depth, 1, bias=False)
        self.pooled = nn.Conv2d(inputs, depth, 1, bias=False)
        self.pooled_norm = _activated(depth)
        self.pooled_project = nn.Conv2d(depth, depth, 1, bias=False)
        self.norm = _activated(depth)
        gain = nn.init.calculate_gain("leaky_relu", LEAK)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.xavier_normal_(module.weight, gain)

    def forward(self, body: Float[Tensor, "b n hs ws"]) -> Float[Tensor, "b d hs ws"]:
        spread = self.branches_norm(torch.cat([branch(body) for branch in self.branches], 1))
        pooled = self.pooled_norm(self.pooled(body.mean((2, 3), keepdim=True)))
        return self.norm(self.project(spread) + self.pooled_project(pooled))


def _activated(channels: int) -> nn.Sequential:
    return nn.Sequential(nn.BatchNorm2d(channels), nn.LeakyReLU(LEAK))
