"""Tuning of a new head before its step; a `ClassifierInit` with `epochs` makes one."""

import abc
from collections.abc import Mapping

from jaxtyping import Int
from torch import Tensor, nn
from torch.nn import Parameter

from cssegcore.models.outputs import Outputs


class Tuning(nn.Module, abc.ABC):
    """The parameters that train in the place of a new head's weights.

    The training calls `look` once for each batch of the step's images, then `start`; then trains
    its parameters for some epochs, while `replaced` stands in for weights of the heads; then calls
    `install`.
    """

    @abc.abstractmethod
    def look(self, outputs: Outputs, labels: Int[Tensor, "b h w"]) -> None:
        """Collects statistics of a batch for the start values.

        Args:
            outputs: Outputs of the untrained network in evaluation mode; those of new classes mean
                nothing.
            labels: Labels as annotated in this step: network outputs, 255 void.
        """

    @abc.abstractmethod
    def start(self) -> None:
        """Sets the start values from the statistics of all processes, alike in every process."""

    @abc.abstractmethod
    def replaced(self) -> Mapping[Parameter, Tensor]:
        """Returns the tensors that stand in for weights of the heads; gradients pass through."""

    @abc.abstractmethod
    def install(self) -> None:
        """Writes the tuned weights into the heads."""
