"""DeepLabV3 on any backbone that can have output stride 16 or 8.

Chen et al., Rethinking Atrous Convolution for Semantic Image Segmentation, 2017,
https://arxiv.org/abs/1706.05587. The decoder `summed` is the one that the MiB family published its
numbers with: the pooled branch is added to the projected convolutions instead of concatenated,
activations are leaky, and there is no dropout (https://github.com/fcdl94/MiB, modules/deeplab.py).
`concatenated` is that of DKD and STAR (https://github.com/cvlab-yonsei/DKD, modules/aspp.py).
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal, final

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from cssegcore.core.errors import InputError
from cssegcore.core.ranges import at_least
from cssegcore.models._base import Architecture, FeatureExtractor
from cssegcore.models.backbones import Backbone
from cssegcore.models.outputs import Features

_LEAK = 0.01
_DROPPED = 0.1
"""Share of values that the concatenating decoder drops in training."""
RATES = {16: (6, 12, 18), 8: (12, 24, 32)}
"""Dilations of the decoder by output stride; 32 (not 36) as the MiB family published it."""
WINDOW = 32
"""Side of the pooled branch's window in evaluation: a training crop of 512 at output stride 16."""


@final
@dataclasses.dataclass(frozen=True)
class DeepLabV3(Architecture):
    """Backbone, output stride, depth and kind of the decoder.

    Attributes:
        backbone: The section of its backbone.
        output_stride: 16 or 8.
        depth: Channels d of the decoder.
        decoder: Whether the pooled branch is `summed` with the others or `concatenated`; see above.
    """

    MOVED: ClassVar[Mapping[str, str]] = {
        key: f"model.backbone.{key}" for key in ("weights", "style", "sha256")
    }

    backbone: object
    output_stride: Literal[16, 8] = 16
    depth: int = 256
    decoder: Literal["summed", "concatenated"] = "summed"

    smallest_batch: ClassVar[int] = 2  # one has pooled features without variance

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(1, depth=self.depth)

    @property
    def backbone_stride(self) -> int:
        return self.output_stride

    def extractor(self) -> FeatureExtractor:
        backbone = self.backbone_kind().build(self.output_stride)
        kind = _Decoder if self.decoder == "summed" else _ConcatenatingDecoder
        decoder = kind(backbone.channels[-1], self.depth, RATES[self.output_stride])
        return _DeepLabExtractor(backbone, self.depth, decoder)


class _DeepLabExtractor(FeatureExtractor):
    def __init__(
        self, backbone: Backbone, depth: int, decoder: "_Decoder | _ConcatenatingDecoder"
    ) -> None:
        super().__init__()
        self.channels, self.last_stage_channels = depth, backbone.channels[-1]
        self.backbone = backbone
        self.decoder = decoder

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Features:
        if self.decoder.pooled_norm[0].training and len(images) == 1:
            raise InputError(
                "deeplabv3 cannot train on one image a batch, whose pooled features have no"
                " variance: set `optimizer.batch_size` to 2 or more and give the step two images."
            )
        stages = self.backbone(images)
        last_stage = self.backbone.activation(stages[-1])
        return Features(stages, last_stage, self.decoder(last_stage))


class _Decoder(nn.Module):
    """Atrous spatial pyramid pooling, summed with a pooled branch.

    That branch takes the mean of the whole crop in training, and in evaluation of a window, so that
    large photographs are seen in pieces as large as crops; the two agree up to 32 x 32 features.
    """

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
        gain = nn.init.calculate_gain("leaky_relu", _LEAK)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.xavier_normal_(module.weight, gain)

    def forward(self, features: Float[Tensor, "b n hs ws"]) -> Float[Tensor, "b d hs ws"]:
        spread = self.branches_norm(torch.cat([branch(features) for branch in self.branches], 1))
        mean = features.mean((2, 3), keepdim=True) if self.training else _windowed(features)
        pooled = self.pooled_project(self.pooled_norm(self.pooled(mean)))
        return self.norm(self.project(spread) + _widened(pooled, spread.shape[-2:]))


class _ConcatenatingDecoder(nn.Module):
    """Atrous spatial pyramid pooling with the pooled branch as a fifth one; features are >= 0.

    The mean is that of the whole image, in evaluation too.
    """

    def __init__(self, inputs: int, depth: int, rates: tuple[int, int, int]) -> None:
        super().__init__()
        dilated = [_normed_branch(inputs, depth, 3, rate) for rate in rates]
        self.branches = nn.ModuleList([_normed_branch(inputs, depth, 1), *dilated])
        self.pooled = nn.Conv2d(inputs, depth, 1, bias=False)
        self.pooled_norm = nn.Sequential(nn.BatchNorm2d(depth), nn.ReLU())
        self.project = _normed_branch(5 * depth, depth, 1)
        self.dropout = nn.Dropout(_DROPPED)
        self.last = _normed_branch(depth, depth, 3)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, features: Float[Tensor, "b n hs ws"]) -> Float[Tensor, "b d hs ws"]:
        pooled = self.pooled_norm(self.pooled(features.mean((2, 3), keepdim=True)))
        spread = [branch(features) for branch in self.branches]
        joined = torch.cat([*spread, pooled.expand_as(spread[0])], 1)
        return self.last(self.dropout(self.project(joined)))


def _normed_branch(inputs: int, outputs: int, kernel: int, dilation: int = 1) -> nn.Sequential:
    padding = dilation * (kernel // 2)
    convolution = nn.Conv2d(inputs, outputs, kernel, 1, padding, dilation, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU())


def _windowed(features: Float[Tensor, "b n h w"]) -> Float[Tensor, "b n hp wp"]:
    """Returns the mean in every place of the window."""
    if torch.compiler.is_exporting():
        return _window_means(_window_means(features, 2), 3)
    h, w = (min(WINDOW, side) for side in features.shape[-2:])
    # along one axis, then the other: eight times quicker
    return F.avg_pool2d(F.avg_pool2d(features, (h, 1), 1), (1, w), 1)


def _window_means(features: Float[Tensor, "b n h w"], axis: int) -> Float[Tensor, "b n h w"]:
    """Returns the means along one axis at their widened size, by sums that suit every size.

    An exported graph knows no size, and so neither the window's nor whether there are margins.
    """
    places = torch.arange(features.shape[axis], device=features.device)
    last = places[-1:]
    length = (last + 1).clamp(max=WINDOW)
    start = torch.minimum((places - (length - 1) // 2).clamp(min=0), last + 1 - length)
    sums = features.cumsum(axis)
    until = sums.index_select(axis, start + length - 1)
    before = (sums - features).index_select(axis, start)
    return (until - before) / length


def _widened(pooled: Float[Tensor, "b d hp wp"], size: Sequence[int]) -> Tensor:
    """Repeats the margins up to `size`, one more below and right where it does not come out even.

    The released code does so before its 1x1 convolutions, which makes no difference.
    """
    if torch.compiler.is_exporting() or pooled.shape[-2:] == (1, 1):
        return pooled  # adds to every place as it is
    down, across = (full - side for full, side in zip(size, pooled.shape[-2:], strict=True))
    margins = (across // 2, across - across // 2, down // 2, down - down // 2)
    return F.pad(pooled, margins, mode="replicate")


def _activated(channels: int) -> nn.Sequential:
    return nn.Sequential(nn.BatchNorm2d(channels), nn.LeakyReLU(_LEAK))
