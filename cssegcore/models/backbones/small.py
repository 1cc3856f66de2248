"""A small residual backbone for CPU work: output stride 8, trained from scratch.

A residual block at stride 2 and 4 each, where texture is told apart, then one at stride 8 and a
dilated one.
"""

import dataclasses
from typing import final

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from cssegcore.core.ranges import at_least
from cssegcore.models.backbones._base import Backbone, BackboneKind

_NARROWEST = 8
"""On a CPU with AVX2, oneDNN's 1x1 convolution at stride 2 (the shortcuts) writes past its buffer
when channels_last photographs have fewer channels; seen with PyTorch 2.14 and 2.15."""


@final
@dataclasses.dataclass(frozen=True, kw_only=True)
class SmallBackbone(BackboneKind):
    """Widths and dilation of the small backbone.

    Attributes:
        stem: Channels of the two plain convolutions at stride 2, each >= 8.
        widths: Channels of the blocks at stride 4 and 8, and of the dilated one, each >= 8.
        dilation: Dilation of the last block.
    """

    weights: str = "none"
    stem: tuple[int, int] = (16, 32)
    widths: tuple[int, int, int] = (64, 96, 128)
    dilation: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(*self.stem, *self.widths) < _NARROWEST:
            raise ValueError(
                f"`stem` and `widths` must be >= {_NARROWEST}: with fewer channels, PyTorch on a"
                " CPU with AVX2 writes past the end of its memory"
            )
        at_least(1, dilation=self.dilation)

    @property
    def has_download(self) -> bool:
        return False

    @property
    def title(self) -> str:
        return "the small backbone"

    def fresh(self, output_stride: int) -> Backbone:
        (a, b), (c, d, e) = self.stem, self.widths
        return _Small(a, b, c, d, e, dilation=self.dilation)


class _Small(Backbone):
    """Returns the residual sums, before their activation, of its three blocks."""

    strides = (4, 8, 8)

    def __init__(self, a: int, b: int, c: int, d: int, e: int, *, dilation: int) -> None:
        super().__init__()
        self.channels = (c, d, e)
        self.stem = nn.Sequential(
            nn.Sequential(*_normed(3, a, stride=2), nn.ReLU(inplace=True)),
            nn.Sequential(*_normed(a, b), nn.ReLU(inplace=True)),
        )
        self.blocks = nn.ModuleList(
            [_Block(b, c, stride=2), _Block(c, d, stride=2), _Block(d, e, dilation=dilation)]
        )

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> tuple[Float[Tensor, "b _ _ _"], ...]:
        features, sums = self.stem(images), []
        for block in self.blocks:
            sums.append(block(features))
            features = F.relu(sums[-1])
        return tuple(sums)

    def activation(self, features: Float[Tensor, "b n h w"]) -> Float[Tensor, "b n h w"]:
        return F.relu(features)


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
