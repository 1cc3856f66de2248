"""A small network for CPU work: four stages, output stride 4 to 8, trained from scratch."""

import dataclasses
from typing import final

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from cssegcore.networks._base import Architecture, Trunk


@final
@dataclasses.dataclass(frozen=True)
class Small(Architecture):
    """Plain 3x3 convolutions with batch norm, the last two dilated, and a pooled context.

    Attributes:
        widths: Channels of the four stages; the last is the depth the classifiers read.
        dilation: Dilation of the last stage.
    """

    widths: tuple[int, int, int, int] = (32, 64, 96, 128)
    dilation: int = 2

    def __post_init__(self) -> None:
        if min(self.widths) < 1 or self.dilation < 1:
            raise ValueError(f"`widths` {self.widths} and `dilation` {self.dilation} must be >= 1")

    def trunk(self) -> Trunk:
        return _SmallTrunk(self)


class _SmallTrunk(Trunk):
    def __init__(self, numbers: Small) -> None:
        super().__init__()
        a, b, c, d = numbers.widths
        self.channels = d
        self.stages = nn.Sequential(
            _layer(3, a, stride=2),
            _layer(a, b, stride=2),
            _layer(b, b),
            _layer(b, c, stride=2),
            _layer(c, c),
            _layer(c, d, dilation=numbers.dilation),
            _layer(d, d, dilation=2 * numbers.dilation),
        )
        self.context = nn.Conv2d(d, d, 1)

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b d hs ws"]:
        features = self.stages(images)
        pooled = features.mean((2, 3), keepdim=True)
        return F.relu(features + self.context(pooled))


def _layer(inputs: int, outputs: int, *, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, dilation, dilation, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )
