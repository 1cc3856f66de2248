"""A head: the classifier of one group of classes."""

import abc
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cssegcore.core.types import BACKGROUND


class Head(nn.Module, abc.ABC):
    """The weights of a group of outputs, which an extractor scores features by."""

    @property
    @abc.abstractmethod
    def weight(self) -> Tensor:
        """Weight vectors, one for each output: (outputs, d) or (outputs, d, 1, 1)."""

    @property
    @abc.abstractmethod
    def bias(self) -> Tensor:
        """Biases, one for each output: (outputs,)."""

    @property
    def outputs(self) -> int:
        """Number of the group's outputs."""
        return len(self.bias)

    @property
    def rows(self) -> tuple[Tensor, ...]:
        """All parameters that have a row for each output."""
        return self.weight, self.bias

    @torch.no_grad()
    def start_as_background(self, first: "Head") -> None:
        """Makes all outputs copies of the background's.

        Args:
            first: The head of the same kind whose first output is the background.
        """
        self.copy_shared_layers(first)
        for own, theirs in zip(self.rows, first.rows, strict=True):
            own.copy_(theirs[BACKGROUND].expand_as(own))

    def copy_shared_layers(self, first: "Head") -> None:
        """Copies the layers that all outputs of another head share, by default none.

        Rows of the last layer read what these layers make of the features, so a copied row scores
        as its origin does only behind the same layers.

        Args:
            first: A head of the same kind.
        """
        del first


class FeatureHead(Head):
    """Scores a group of outputs from features alone; ends in a 1x1 convolution with bias.

    Attributes:
        classifier: The last convolution; its output channels are the group's outputs.
    """

    classifier: nn.Conv2d

    @property
    def weight(self) -> Tensor:
        return self.classifier.weight

    @property
    def bias(self) -> Tensor:
        assert self.classifier.bias is not None
        return self.classifier.bias

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
