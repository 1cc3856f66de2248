"""BiSeNet: a shallow path for detail, a deep one for context.

Yu et al., BiSeNet: Bilateral Segmentation Network for Real-time Semantic Segmentation, ECCV 2018,
https://arxiv.org/abs/1808.00897. The layers are those that it was published with for continual
segmentation, in
https://github.com/francescodisalvo05/incremental-learning-semantic-segmentation: the deepest
features are multiplied by their global average, where the paper adds it, and fusion gives 256
channels to classifiers of one 1x1 convolution. Output stride 8.
"""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar, final

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from cssegcore.core.errors import InputError
from cssegcore.core.ranges import non_negative
from cssegcore.models._base import Architecture, FeatureExtractor
from cssegcore.models.backbones import Backbone
from cssegcore.models.outputs import Features

SPATIAL = (64, 128, 256)
"""Channels of the spatial path at stride 2, 4 and 8."""
FUSED = 256
CONTEXT = (16, 32)
"""Strides of the two features that the context path gives."""


@final
@dataclasses.dataclass(frozen=True)
class BiSeNet(Architecture):
    """Backbone, and weight of the auxiliary classifiers.

    Attributes:
        backbone: The section of the context path, which must have features at stride 16 and 32.
        auxiliary: Factor of the losses of the two auxiliary classifiers; 0 builds none. Published:
            1.
    """

    MOVED: ClassVar[Mapping[str, str]] = {"weights": "model.backbone.weights"}

    backbone: object
    auxiliary: float = 1.0

    smallest_batch: ClassVar[int] = 2  # one has pooled features without variance

    def __post_init__(self) -> None:
        super().__post_init__()
        non_negative(auxiliary=self.auxiliary)

    @property
    def backbone_stride(self) -> int:
        return CONTEXT[-1]

    def check_backbone(self, backbone: Backbone) -> None:
        if backbone.strides[-2:] != CONTEXT:
            raise InputError(
                f"`model.backbone`: bisenet reads features at stride {CONTEXT[0]} and {CONTEXT[1]},"
                f" and the last ones of {self.backbone_kind().title} have"
                f" {', '.join(map(str, backbone.strides))}: choose another backbone."
            )

    def extractor(self) -> FeatureExtractor:
        outline = self.backbone_kind().outline(self.backbone_stride)
        self.check_backbone(outline)
        extractor = _BiSeNetExtractor(outline, self.auxiliary)
        # initialises itself, and last: numbers are drawn in the published order
        extractor.backbone = self.backbone_kind().build(self.backbone_stride)
        return extractor


class _BiSeNetExtractor(FeatureExtractor):
    def __init__(self, outline: Backbone, auxiliary: float) -> None:
        super().__init__()
        *_, middle, deep = outline.channels
        self.channels, self.last_stage_channels = FUSED, deep
        self.auxiliary_weight = auxiliary
        if auxiliary:
            self.auxiliary_channels = (middle, deep)
        self.spatial = nn.Sequential(
            *(_normed(n, m, stride=2) for n, m in zip((3, *SPATIAL), SPATIAL, strict=False))
        )
        self.refine_middle, self.refine_deep = _Refinement(middle), _Refinement(deep)
        self.fusion = _Fusion(SPATIAL[-1] + middle + deep, FUSED)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Features:
        refinements = (self.refine_middle, self.refine_deep)
        if any(r.norm.training for r in refinements) and len(images) == 1:
            raise InputError(
                "bisenet cannot train on one image a batch, whose pooled features have no"
                " variance: set `optimizer.batch_size` to 2 or more and give the step two images."
            )
        spatial, stages = self.spatial(images), self.backbone(images)
        last_stage = self.backbone.activation(stages[-1])
        context = (
            self.refine_middle(self.backbone.activation(stages[-2])),
            self.refine_deep(last_stage) * _pooled(last_stage),
        )
        middle, deep = (F.interpolate(c, spatial.shape[-2:], mode="bilinear") for c in context)
        decoder_out = self.fusion(torch.cat([spatial, middle, deep], 1))
        extra = self.training and self.auxiliary_channels
        return Features(stages, last_stage, decoder_out, (middle, deep) if extra else ())

    def input_norms(self) -> list[nn.BatchNorm2d]:
        return [self._spatial_norms()[0], *super().input_norms()]

    def norms_with_image_statistics(self) -> list[nn.BatchNorm2d]:
        """Returns the normalisations of both paths.

        Those of the refinements see one pixel an image, too few to tell photographs by.
        """
        return self._spatial_norms() + super().norms_with_image_statistics()

    def _spatial_norms(self) -> list[nn.BatchNorm2d]:
        return [m for m in self.spatial.modules() if isinstance(m, nn.BatchNorm2d)]


class _Refinement(nn.Module):
    """The paper's attention refinement module: weights channels by their means over the image."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(channels, channels, 1)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, features: Float[Tensor, "b n h w"]) -> Float[Tensor, "b n h w"]:
        return features * self.norm(self.convolution(_pooled(features))).sigmoid()


class _Fusion(nn.Module):
    """The paper's feature fusion module: a convolution, whose channels it weighs."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.project = _normed(inputs, outputs)
        self.weigh = nn.Sequential(
            nn.Conv2d(outputs, outputs, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(outputs, outputs, 1),
            nn.Sigmoid(),
        )

    def forward(self, joined: Float[Tensor, "b n h w"]) -> Float[Tensor, "b m h w"]:
        fused = self.project(joined)
        return fused * self.weigh(_pooled(fused)) + fused


def _normed(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


def _pooled(features: Float[Tensor, "b n h w"]) -> Float[Tensor, "b n 1 1"]:
    return features.mean((2, 3), keepdim=True)
