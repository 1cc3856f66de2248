"""SSUL's head: a 3x3 convolution of its own, normalised, before the 1x1 that scores.

Cha et al., SSUL: Semantic Segmentation with Unknown Label for Exemplar-based Class-Incremental
Learning, NeurIPS 2021, https://arxiv.org/abs/2106.11562.
"""

import dataclasses
from typing import final

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from cssegcore.models.heads._base import FeatureHead, Head, HeadKind


@final
@dataclasses.dataclass(frozen=True)
class Conv(HeadKind):
    """No numbers; every step's classes get layers of their own, so that old ones can stand still.

    Convolutions start as `kaiming_normal_` leaves them (fan in, gain of a ReLU), as in the released
    code.
    """

    def build(self, channels: int, outputs: int) -> FeatureHead:
        return _ConvHead(channels, outputs)


class _ConvHead(FeatureHead):
    def __init__(self, channels: int, outputs: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        self.classifier = nn.Conv2d(channels, outputs, 1)
        for layer in (self.convolution, self.classifier):
            nn.init.kaiming_normal_(layer.weight)

    def copy_shared_layers(self, first: Head) -> None:
        assert isinstance(first, _ConvHead)
        self.convolution.load_state_dict(first.convolution.state_dict())
        self.norm.load_state_dict(first.norm.state_dict())

    def forward(self, features: Float[Tensor, "b d h w"]) -> Float[Tensor, "b g h w"]:
        return self.classifier(F.relu(self._normed(features)))

    def _normed(self, features: Float[Tensor, "b d h w"]) -> Float[Tensor, "b d h w"]:
        norm = self.norm
        if norm.training or not isinstance(norm, nn.BatchNorm2d):
            return norm(self.convolution(features))
        # one that stands still is a factor and an offset: cheaper on weights than on features
        assert norm.running_mean is not None
        assert norm.running_var is not None
        factor = norm.weight * (norm.running_var + norm.eps).rsqrt()
        weight = self.convolution.weight * factor[:, None, None, None]
        return F.conv2d(features, weight, norm.bias - norm.running_mean * factor, padding=1)
