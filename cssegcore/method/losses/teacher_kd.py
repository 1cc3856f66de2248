"""Unbiased distillation from the models that made the images."""

import dataclasses
from typing import ClassVar, final

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from cssegcore.core.precision import at_least_float32
from cssegcore.core.types import Scores
from cssegcore.method.losses._base import Loss, LossInputs


def teacher_distillation(
    logits: Float[Tensor, "b c h w"], teacher_logits: Float[Tensor, "b k h w"]
) -> Float[Tensor, ""]:
    """Computes MiB's unbiased distillation (`unbiased_kd`), with a teacher for each image.

    What a teacher calls background may be of any class that was learned after it: those outputs are
    summed into the background, image by image. Where all teachers know all k outputs and c > k, it
    is `unbiased_distillation`, whose mean over the outputs it keeps.

    Args:
        logits: Scores of all c outputs.
        teacher_logits: Logits of each image's teacher for the first k <= c outputs, -inf for those
            that it does not know, in every pixel; background is known.
    """
    scores, target = at_least_float32(logits), at_least_float32(teacher_logits)
    known = F.pad(
        target[:, :, :1, :1].isfinite(), (0, 0, 0, 0, 0, scores.shape[1] - target.shape[1])
    )
    foreground = known.clone()
    foreground[:, 0] = False
    background = scores.masked_fill(foreground, -torch.inf).logsumexp(1)
    said = target.softmax(1)
    agreed = (said * scores[:, : target.shape[1]])[:, 1:].sum(1) + said[:, 0] * background
    return ((scores.logsumexp(1) - agreed) / known.sum(1)).mean()


@final
@dataclasses.dataclass(frozen=True)
class TeacherDistillation(Loss):
    """`teacher_distillation` as a term. 10 is published for `unbiased_kd`."""

    needs_teachers: ClassVar[bool] = True
    scores: ClassVar[Scores | None] = "softmax"
    expects_background_at_0: ClassVar[bool] = True

    def __call__(self, batch: LossInputs) -> Float[Tensor, ""]:
        assert batch.teacher_logits is not None, "the objective runs the teachers"
        return teacher_distillation(batch.logits, batch.teacher_logits)
