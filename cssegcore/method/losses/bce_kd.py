"""LwF-MC's and DKD's distillation: each old output keeps the old model's yes or no.

Rebuffi et al., iCaRL: Incremental Classifier and Representation Learning, CVPR 2017,
https://arxiv.org/abs/1611.07725; for segmentation as in MiB's baselines. Without the background:
Baek et al., Decomposed Knowledge Distillation for Class-Incremental Semantic Segmentation (DKD),
NeurIPS 2022, https://arxiv.org/abs/2210.05941.
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
    logits: Float[Tensor, "b c h w"],
    old_logits: Float[Tensor, "b k h w"],
    background: bool = True,
) -> Float[Tensor, ""]:
    """Computes the sigmoid cross-entropy from the old model: sum over outputs, mean over pixels.

    All pixels take part, unlabelled ones too.

    Args:
        logits: Scores of all c outputs.
        old_logits: Scores of the old model's k <= c outputs.
        background: Whether output 0 takes part.
    """
    first, k = 0 if background else 1, old_logits.shape[1]
    target = at_least_float32(old_logits[:, first:]).sigmoid()
    kept = at_least_float32(logits[:, first:k])
    return (k - first) * F.binary_cross_entropy_with_logits(kept, target)


@final
@dataclasses.dataclass(frozen=True)
class BinaryDistillation(Loss):
    """`binary_distillation` as a term. Published weights: 10 (LwF-MC), 5 (DKD).

    Attributes:
        background: Whether output 0 takes part; not where the model has no such output (DKD).
    """

    background: bool = True

    needs_old: ClassVar[bool] = True
    scores: ClassVar[Scores | None] = "sigmoid"

    @property
    def reads_background(self) -> bool:
        return self.background

    def __call__(self, batch: LossInputs) -> Float[Tensor, ""]:
        return binary_distillation(batch.logits, batch.old_outputs.logits, self.background)
