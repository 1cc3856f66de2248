"""Cross-entropy on the labels as annotated: fine-tuning, joint training and every base step."""

import dataclasses
from typing import ClassVar, final

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from cssegcore.core.precision import at_least_float32
from cssegcore.core.types import IGNORE, Scores
from cssegcore.method.losses._base import Average, Averaged, LossInputs


def cross_entropy(
    logits: Float[Tensor, "b c h w"], labels: Int[Tensor, "b h w"], average: Average = "all"
) -> Float[Tensor, ""]:
    """Computes the mean cross-entropy; pixels labelled 255 add nothing.

    Deviation: the mean runs over all pixels, ignored ones included, as the released code of MiB and
    PLOP has it; `average="labelled"` divides by the labelled ones (0 if there is none).
    """
    scores = at_least_float32(logits)
    total = F.cross_entropy(scores, labels, ignore_index=IGNORE, reduction="sum")
    if average == "all":
        return total / labels.numel()
    return total / (labels != IGNORE).sum().clamp(min=1)


@final
@dataclasses.dataclass(frozen=True)
class CrossEntropy(Averaged):
    """`cross_entropy` as a term."""

    scores: ClassVar[Scores | None] = "softmax"
    is_supervised: ClassVar[bool] = True
    reads_old_labels: ClassVar[bool] = True

    def __call__(self, batch: LossInputs) -> Float[Tensor, ""]:
        return cross_entropy(batch.logits, batch.labels, self.average)
