"""Mean squared difference between logits of the network and of the images' teachers."""

import dataclasses
from typing import ClassVar, final

from jaxtyping import Float
from torch import Tensor

from cssegcore.core.precision import at_least_float32
from cssegcore.core.types import Scores
from cssegcore.method.losses._base import Loss, LossInputs


def teacher_distance(
    logits: Float[Tensor, "b c h w"], teacher_logits: Float[Tensor, "b k h w"]
) -> Float[Tensor, ""]:
    """Computes the mean squared difference of logits over the outputs that each teacher knows.

    The background is included. With one teacher, as published (see docs/methods.md), it is the mean
    over all pixels and the teacher's outputs. It has no bound.

    Args:
        logits: Scores of all c outputs.
        teacher_logits: Logits of each image's teacher for the first k <= c outputs, -inf for those
            that it does not know, in every pixel.
    """
    target = at_least_float32(teacher_logits)
    known = target.isfinite()
    apart = (
        at_least_float32(logits[:, : teacher_logits.shape[1]]) - target.where(known, 0)
    ).square()
    return apart.where(known, 0).sum() / known.sum()


@final
@dataclasses.dataclass(frozen=True)
class TeacherMse(Loss):
    """`teacher_distance` as a term. The published weight is 1."""

    needs_teachers: ClassVar[bool] = True
    scores: ClassVar[Scores | None] = "softmax"

    def __call__(self, batch: LossInputs) -> Float[Tensor, ""]:
        assert batch.teacher_logits is not None, "the objective runs the teachers"
        return teacher_distance(batch.logits, batch.teacher_logits)
