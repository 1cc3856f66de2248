"""What a loss term sees, and what it gives."""

import abc
import dataclasses
from typing import ClassVar, Literal

from jaxtyping import Float, Int
from torch import Tensor

Average = Literal["all", "labelled"]
"""What a sum over pixels is divided by: all pixels, as the released code of the field does, or
only those that carry a label, as the papers write it."""


@dataclasses.dataclass(frozen=True)
class Pass:
    """One batch after its forward passes.

    Attributes:
        logits: Of the network in training, float32, at the photographs' size.
        old_logits: Of the model of the step before; absent in a step that starts afresh.
        labels: Network outputs as annotated for this step, 255 where there is no label.
        num_old: Outputs k of the old model, background included; 1 where there is none, which
            turns every unbiased loss into its plain form.
    """

    logits: Float[Tensor, "b c h w"]
    old_logits: Float[Tensor, "b k h w"] | None
    labels: Int[Tensor, "b h w"]
    num_old: int


@dataclasses.dataclass(frozen=True)
class Loss(abc.ABC):
    """A term of the objective, already averaged; the engine multiplies it by `weight`."""

    weight: float = dataclasses.field(default=1.0, kw_only=True)

    needs_old: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not 0 <= self.weight < float("inf"):
            raise ValueError(f"`weight` must be a finite number >= 0, got {self.weight}")

    @abc.abstractmethod
    def __call__(self, batch: Pass) -> Float[Tensor, ""]:
        """Computes the unweighted term."""
