"""Plain distillation: the new model keeps the old model's scores of the old outputs.

Li & Hoiem, Learning without Forgetting, ECCV 2016, https://arxiv.org/abs/1606.09282; for
segmentation as in Michieli & Zanuttigh, https://arxiv.org/abs/1907.13372, and in MiB's baselines.
"""

import dataclasses
from typing import ClassVar, final

from jaxtyping import Float
from torch import Tensor

from cssegcore.core.precision import at_least_float32
from cssegcore.core.ranges import positive
from cssegcore.core.types import Scores
from cssegcore.method.losses._base import Loss, LossInputs


def distillation(
    logits: Float[Tensor, "b c h w"], old_logits: Float[Tensor, "b k h w"], alpha: float = 1.0
) -> Float[Tensor, ""]:
    """Computes the cross-entropy from the old model, among the old outputs alone.

    All pixels take part, unlabelled ones too; new outputs take part in nothing.

    Deviation: the mean runs over the k outputs as well, as in MiB's released baselines, to whose
    mean the weight 100 belongs. Li & Hoiem soften both sides by a temperature; `alpha` multiplies
    the old scores alone, and the published recipes leave it at 1.

    Args:
        logits: Scores of all c outputs.
        old_logits: Scores of the old model's k <= c outputs.
        alpha: Factor of the old scores before their softmax.
    """
    old = (alpha * at_least_float32(old_logits)).softmax(1)
    new = at_least_float32(logits[:, : old_logits.shape[1]])
    return -(old * new.log_softmax(1)).mean()


@final
@dataclasses.dataclass(frozen=True)
class Distillation(Loss):
    """`distillation` as a term. The published weight is 100."""

    alpha: float = 1.0

    needs_old: ClassVar[bool] = True
    scores: ClassVar[Scores | None] = "softmax"

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(alpha=self.alpha)

    def __call__(self, batch: LossInputs) -> Float[Tensor, ""]:
        return distillation(batch.logits, batch.old_outputs.logits, self.alpha)
