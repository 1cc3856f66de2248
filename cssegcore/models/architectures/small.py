"""A small residual network for CPU work: output stride 8, trained from scratch in a minute or two.

A residual block at stride 2 and 4 each, where texture is told apart, then one at stride 8 and a
dilated one; a pooled context is added before the classifiers.
"""

import dataclasses
from typing import final

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from cssegcore.models._base import Architecture, FeatureExtractor
from cssegcore.models.outputs import Features


@final
@dataclasses.dataclass(frozen=True)
class Small(Architecture):
    """How wide and how deep.

    Attributes:
        stem: Channels of the two plain convolutions at stride 2.
        widths: Channels of the blocks at stride 4 and 8, and of the dilated one.
        depth: Channels d that the classifiers read.
        dilation: Of the last block.
    """

    stem: tuple[int, int] = (16, 32)
    widths: tuple[int, int, int] = (64, 96, 128)
    depth: int = 96
    dilation: int = 2

    def __post_init__(self) -> None:
        if min(*self.stem, *self.widths, self.depth, self.dilation) < 1:
            raise ValueError("`stem`, `widths`, `depth` and `dilation` must be >= 1")

    def extractor(self) -> FeatureExtractor:
        return _SmallExtractor(self)


class _SmallExtractor(FeatureExtractor):
    def __init__(self, numbers: Small) -> None:
        super().__init__()
        (a, b), (c, d, e) = numbers.stem, numbers.widths
        self.channels, self.last_stage_channels = numbers.depth, e
        self.backbone = _Backbone(a, b, c, d, e, dilation=numbers.dilation)
        self.local = nn.Conv2d(e, self.channels, 1, bias=False)
        self.context = nn.Conv2d(e, self.channels, 1)
        nn.init.zeros_(self.context.weight)  # starts as no context and learns how much it needs
        self.norm = nn.BatchNorm2d(self.channels)

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Features:
        stages = self.backbone(images)
        body = F.relu(stages[-1])
        context = self.context(body.mean((2, 3), keepdim=True))
        return Features(stages, body, F.relu(self.norm(self.local(body) + context)))


class _Backbone(nn.Module):
    """Returns the residual sums, before their activation, of its three blocks."""

    def __init__(self, a: int, b: int, c: int, d: int, e: int, *, dilation: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Sequential(*_normed(3, a, stride=2), nn.ReLU(inplace=True)),
            nn.Sequential(*_normed(a, b), nn.ReLU(inplace=True)),
        )
        self.blocks = nn.ModuleList(
            [_Block(b, c, stride=2), _Block(c, d, stride=2), _Block(d, e, dilation=dilation)]
        )

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> tuple[Tensor, ...]:
        features, stages = self.stem(images), []
        for block in self.blocks:
            stages.append(block(features))
            features = F.relu(stages[-1])
        return tuple(stages)


class _Block(nn.Module):
    """Two 3x3 convolutions beside a projected shortcut; gives the sum before its activation."""

    def __init__(self, inputs: int, outputs: int, *, stride: int = 1, dilation: int = 1) -> None:
        super().__init__()
        self.path = nn.Sequential(
            *_normed(inputs, outputs, stride=stride, dilation=dilation),
            nn.ReLU(inplace=True),
            *_normed(outputs, outputs, dilation=dilation),
        )
        self.shortcut = nn.Sequential(*_normed(inputs, outputs, size=1, stride=stride))

    def forward(self, features: Float[Tensor, "b n h w"]) -> Float[Tensor, "b m hs ws"]:
        return self.path(features) + self.shortcut(features)


def _normed(
    inputs: int, outputs: int, *, size: int = 3, stride: int = 1, dilation: int = 1
) -> tuple[nn.Module, nn.Module]:
    padding = dilation * (size // 2)
    convolution = nn.Conv2d(inputs, outputs, size, stride, padding, dilation, bias=False)
    return convolution, nn.BatchNorm2d(outputs)
