"""One 1x1 convolution, with PyTorch's own initialisation: the head of MiB and most after it."""

import dataclasses
from typing import final

from jaxtyping import Float
from torch import Tensor, nn

from cssegcore.models.heads._base import FeatureHead, HeadKind


@final
@dataclasses.dataclass(frozen=True)
class Linear(HeadKind):
    """No numbers."""

    def build(self, channels: int, outputs: int) -> FeatureHead:
        return _LinearHead(channels, outputs)


class _LinearHead(FeatureHead):
    def __init__(self, channels: int, outputs: int) -> None:
        super().__init__()
        self.classifier = nn.Conv2d(channels, outputs, 1)

    def forward(self, features: Float[Tensor, "b d h w"]) -> Float[Tensor, "b g h w"]:
        return self.classifier(features)
