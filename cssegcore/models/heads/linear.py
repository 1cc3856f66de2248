"""One 1x1 convolution: the head of MiB and most after it."""

import dataclasses
from typing import ClassVar, Literal, final

from jaxtyping import Float
from torch import Tensor, nn

from cssegcore.models.heads._base import FeatureHead, HeadKind


@final
@dataclasses.dataclass(frozen=True)
class Linear(HeadKind):
    """A 1x1 convolution with bias.

    Attributes:
        init: Initialisation of its weights: PyTorch's own (`uniform`), or `kaiming_normal_` with
            fan in and the gain of a ReLU (`kaiming`: DKD and STAR). Biases are PyTorch's own.
    """

    init: Literal["uniform", "kaiming"] = "uniform"

    is_linear: ClassVar[bool] = True

    def build(self, channels: int, outputs: int) -> FeatureHead:
        head = _LinearHead(channels, outputs)
        if self.init == "kaiming":
            nn.init.kaiming_normal_(head.classifier.weight)
        return head


class _LinearHead(FeatureHead):
    def __init__(self, channels: int, outputs: int) -> None:
        super().__init__()
        self.classifier = nn.Conv2d(channels, outputs, 1)

    def forward(self, features: Float[Tensor, "b d h w"]) -> Float[Tensor, "b g h w"]:
        return self.classifier(features)
