"""Interfaces of a statistic (the part) and of its accumulator (its state in one training)."""

import abc
import dataclasses
from collections.abc import Iterable, Mapping
from typing import ClassVar

import torch
from jaxtyping import Int
from torch import Tensor
from torch.nn import Parameter

from cssegcore.core.errors import InputError
from cssegcore.core.tensors import Tensors
from cssegcore.core.types import Scores
from cssegcore.models.outputs import Outputs

LabelledOutputs = tuple[Outputs, Int[Tensor, "b h w"]]
"""Outputs of a network, and the labels as annotated: network outputs, 255 void."""


@dataclasses.dataclass(frozen=True)
class StatisticContext:
    """The training that an accumulator belongs to.

    Attributes:
        index: Place of the step, 0 the base.
        weights: The weights in training by name, initialised, on the training's device.
        outputs: Outputs c of the network.
        num_old: Outputs k of the old model; 1 without one.
        depth: Channels n of `Features.last_stage`.
        previous: Result of the previous step (`Accumulator.result`), on the training's device; None
            in a step that starts afresh.
        channels: Channels d of `Features.decoder_out`.
        iterations: Batches of an epoch.
        device: Device of the network, None for the CPU.
    """

    index: int
    weights: Mapping[str, Parameter]
    outputs: int
    num_old: int
    depth: int
    previous: Tensors | None
    channels: int = 0
    iterations: int = 1
    device: torch.device | None = None

    def rows_of_old_classes(
        self, part: str, shapes: Mapping[str, tuple[int, ...]]
    ) -> dict[str, Tensor]:
        """Returns the previous step's tensors with the names of `shapes`.

        Args:
            part: Name of the statistic, for messages.
            shapes: Shapes that the tensors must have.

        Raises:
            InputError: A tensor is missing or has another shape.
        """
        previous = self.previous or {}
        for name, shape in shapes.items():
            if name not in previous:
                raise InputError(
                    f"Step {self.index} needs `{name}` of the old classes, and the previous step"
                    f" saved none: list the part `{part}` in `method.base.statistics`."
                )
            if previous[name].shape != shape:
                raise InputError(
                    f"Step {self.index} needs `{name}` of the old classes of shape {tuple(shape)},"
                    f" and the previous step saved {tuple(previous[name].shape)}: train that step"
                    " again."
                )
        return {name: previous[name] for name in shapes}


class Accumulator(abc.ABC):
    """Sees every iteration of one training. Its tensors carry no gradient.

    Attributes:
        previous: Result of the previous step; empty if there was none.
    """

    previous: Tensors

    def prepare(self, batches: Iterable[LabelledOutputs]) -> None:
        """Called once before the first iteration of an increment, for `needs_old_pass`.

        A training that goes on after a kill gets what this computed through `state`.

        Args:
            batches: One pass of the old model over the step's images, as augmented for training;
                in each process its share. It must be read to its end.
        """
        return

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

    def conclude(self, batches: Iterable[LabelledOutputs]) -> None:
        """Called once before `result`, for `needs_final_pass`.

        Args:
            batches: One pass of the network that will be saved, in evaluation mode, after training
                and after the rule `after`; else the same as in `prepare`.
        """
        return

    @abc.abstractmethod
    def result(self) -> dict[str, Tensor]:
        """Returns the tensors that the next step needs, once training is over."""


class Statistic(abc.ABC):
    """The numbers of a statistic; the dataclass of a part.

    Attributes:
        needs_old_pass: Whether its accumulator must `prepare`.
        reads_old_as: How it reads the old model's logits; None if it does not.
        expects_background_at_0: Whether output 0 must mean "no class seen so far", not the unknown
            class.
        needs_final_pass: Whether its accumulator must `conclude`; its result is then of the weights
            as saved, not as trained.
    """

    needs_old_pass: ClassVar[bool] = False
    reads_old_as: ClassVar[Scores | None] = None
    expects_background_at_0: ClassVar[bool] = False
    needs_final_pass: ClassVar[bool] = False

    @abc.abstractmethod
    def start(self, context: StatisticContext) -> Accumulator:
        """Starts an accumulator.

        Raises:
            InputError: `context.previous` does not fit the network.
        """
