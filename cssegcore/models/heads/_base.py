"""A head: the layers that score one group of outputs."""

import abc
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn


class Head(nn.Module, abc.ABC):
    """Scores a group of outputs; ends in a 1x1 convolution with bias.

    Attributes:
        classifier: That convolution; its output channels are the group's outputs.
    """

    classifier: nn.Conv2d

    @abc.abstractmethod
    def forward(self, features: Float[Tensor, "b d h w"]) -> Float[Tensor, "b g h w"]:
        """Computes the group's logits at the features' size."""


class HeadKind(abc.ABC):
    """The dataclass of a part.

    Attributes:
        is_linear: Whether a head is its classifier and nothing else.
    """

    is_linear: ClassVar[bool] = False

    @abc.abstractmethod
    def build(self, channels: int, outputs: int) -> Head:
        """Builds a fresh head on features of depth `channels`."""
