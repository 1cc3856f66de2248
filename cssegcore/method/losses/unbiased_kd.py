"""MiB's unbiased distillation: the old model's background may hide a new class.

Cermelli et al., Modeling the Background for Incremental Learning in Semantic Segmentation,
CVPR 2020, https://arxiv.org/abs/2002.00718.
"""

import dataclasses
from typing import ClassVar, final

import torch
from jaxtyping import Float
from torch import Tensor

from cssegcore.core.precision import at_least_float32
from cssegcore.core.ranges import positive
from cssegcore.core.types import Scores
from cssegcore.method.losses._base import Loss, LossInputs


def unbiased_distillation(
    logits: Float[Tensor, "b c h w"], old_logits: Float[Tensor, "b k h w"], alpha: float = 1.0
) -> Float[Tensor, ""]:
    """Computes the cross-entropy from the old model, new outputs summed into the background.

    All pixels take part, unlabelled ones too.

    Deviation: the mean runs over the k outputs as well, where the paper sums, as in the released
    code; the published weight 10 belongs to the mean.

    Args:
        logits: Scores of all c outputs.
        old_logits: Scores of the old model's k < c outputs.
        alpha: Multiplies the old scores before their softmax.

    Raises:
        ValueError: There is no new output.
    """
    c, k = logits.shape[1], old_logits.shape[1]
    if not k < c:
        raise ValueError(f"unbiased distillation needs a new output: old model {k}, new {c}")
    scores = at_least_float32(logits)
    background = torch.cat([scores[:, :1], scores[:, k:]], 1).logsumexp(1, keepdim=True)
    merged = torch.cat([background, scores[:, 1:k]], 1)
    old = (alpha * at_least_float32(old_logits)).softmax(1)
    return -(old * merged.log_softmax(1)).mean()


@final
@dataclasses.dataclass(frozen=True)
class UnbiasedDistillation(Loss):
    """`unbiased_distillation` as a term. The published weight is 10; 100 on VOC 15-1."""

    alpha: float = 1.0

    needs_old: ClassVar[bool] = True
    scores: ClassVar[Scores | None] = "softmax"
    expects_background_at_0: ClassVar[bool] = True
    needs_new_classes: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(alpha=self.alpha)

    def __call__(self, batch: LossInputs) -> Float[Tensor, ""]:
        return unbiased_distillation(batch.logits, batch.old_outputs.logits, self.alpha)
