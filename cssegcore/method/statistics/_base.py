"""A statistic (the part) and its accumulator (what runs during one training)."""

import abc
import dataclasses
from collections.abc import Mapping

from jaxtyping import Int
from torch import Tensor
from torch.nn import Parameter

from cssegcore.core.tensors import Tensors
from cssegcore.models.outputs import Outputs


@dataclasses.dataclass(frozen=True)
class StatisticContext:
    """The training that a accumulator is for.

    Attributes:
        index: Place of the step, 0 the base.
        weights: The weights in training by name, initialised, on the training's device.
        outputs: Outputs c of the network.
        num_old: Outputs k of the old model; 1 without one.
        depth: Channels n of `Features.last_stage`.
        before: What the step before saved (`Accumulator.result`), on the training's device; none in
            a step that starts afresh.
    """

    index: int
    weights: Mapping[str, Parameter]
    outputs: int
    num_old: int
    depth: int
    before: Tensors | None


class Accumulator(abc.ABC):
    """Sees every iteration of one training. Its tensors carry no gradient.

    Attributes:
        before: What the step before saved; empty if there was none.
    """

    before: Tensors

    def update_batch(self, outputs: Outputs, labels: Int[Tensor, "b h w"]) -> None:
        """Called after the forward pass, before the losses of that batch; by default does nothing.

        Args:
            outputs: Outputs of the network in training.
            labels: Annotated labels (no pseudo-labels): indices of outputs, 255 void.
        """
        return

    def update_gradients(self) -> None:
        """Called when the weights hold the gradients of all losses but the penalties, unclipped."""
        return

    @property
    @abc.abstractmethod
    def state(self) -> dict[str, Tensor]:
        """Everything that changes during training, for losses and for resuming; not copied."""

    @state.setter
    @abc.abstractmethod
    def state(self, state: Tensors) -> None: ...

    @abc.abstractmethod
    def result(self) -> dict[str, Tensor]:
        """Returns what the next step needs, once training is over."""


class Statistic(abc.ABC):
    """The numbers of a statistic; the dataclass of a part."""

    @abc.abstractmethod
    def start(self, context: StatisticContext) -> Accumulator:
        """Starts to gather.

        Raises:
            InputError: `context.before` does not fit the network.
        """
