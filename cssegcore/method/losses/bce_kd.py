"""LwF-MC's distillation: each old output keeps the old model's yes or no.

Rebuffi et al., iCaRL: Incremental Classifier and Representation Learning, CVPR 2017,
https://arxiv.org/abs/1611.07725; for segmentation as in MiB's baselines.
"""

import dataclasses
from typing import ClassVar, final

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from cssegcore.core.precision import at_least_float32
from cssegcore.core.types import Scores
from cssegcore.method.losses._base import Loss, LossInputs


def binary_distillation(
    logits: Float[Tensor, "b c h w"], old_logits: Float[Tensor, "b k h w"]
) -> Float[Tensor, ""]:
    """Computes the sigmoid cross-entropy from the old model: sum over outputs, mean over pixels.

    All pixels take part, unlabelled ones too.

    Args:
        logits: Scores of all c outputs.
        old_logits: Scores of the old model's k <= c outputs.
    """
    k = old_logits.shape[1]
    target = at_least_float32(old_logits).sigmoid()
    return k * F.binary_cross_entropy_with_logits(at_least_float32(logits[:, :k]), target)


@final
@dataclasses.dataclass(frozen=True)
class BinaryDistillation(Loss):
    """`binary_distillation` as a term. The published weight is 10."""

    needs_old: ClassVar[bool] = True
    scores: ClassVar[Scores | None] = "sigmoid"

    def __call__(self, batch: LossInputs) -> Float[Tensor, ""]:
        return binary_distillation(batch.logits, batch.old_outputs.logits)
