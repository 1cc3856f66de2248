"""A light decoder for CPU work: a convolution of each place, and a pooled context added to it."""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar, Literal, final

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from cssegcore.core.ranges import at_least
from cssegcore.models._base import Architecture, FeatureExtractor
from cssegcore.models.backbones import Backbone
from cssegcore.models.outputs import Features


@final
@dataclasses.dataclass(frozen=True)
class SmallDecoder(Architecture):
    """Backbone, output stride and depth.

    Attributes:
        backbone: The section of its backbone.
        depth: Channels d that the classifiers read.
        output_stride: Stride of the backbone's last features.
    """

    MOVED: ClassVar[Mapping[str, str]] = {
        key: f"model.backbone.{key}" for key in ("stem", "widths", "dilation")
    }

    backbone: object = dataclasses.field(default_factory=lambda: {"part": "small"})
    depth: int = 96
    output_stride: Literal[32, 16, 8] = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(1, depth=self.depth)

    @property
    def backbone_stride(self) -> int:
        return self.output_stride

    def extractor(self) -> FeatureExtractor:
        return _SmallExtractor(self.backbone_kind().build(self.output_stride), self.depth)


class _SmallExtractor(FeatureExtractor):
    def __init__(self, backbone: Backbone, depth: int) -> None:
        super().__init__()
        self.channels, self.last_stage_channels = depth, backbone.channels[-1]
        self.backbone = backbone
        self.local = nn.Conv2d(self.last_stage_channels, self.channels, 1, bias=False)
        self.context = nn.Conv2d(self.last_stage_channels, self.channels, 1)
        nn.init.zeros_(self.context.weight)  # starts as no context and learns how much it needs
        self.norm = nn.BatchNorm2d(self.channels)

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Features:
        stages = self.backbone(images)
        last_stage = self.backbone.activation(stages[-1])
        context = self.context(last_stage.mean((2, 3), keepdim=True))
        return Features(stages, last_stage, F.relu(self.norm(self.local(last_stage) + context)))
