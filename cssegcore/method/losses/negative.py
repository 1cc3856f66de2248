"""DKD's auxiliary term: the auxiliary output says no everywhere.

Baek et al., Decomposed Knowledge Distillation for Class-Incremental Semantic Segmentation (DKD),
NeurIPS 2022, https://arxiv.org/abs/2210.05941; cvlab-yonsei/DKD, models/loss.py.
"""

import dataclasses
from typing import ClassVar, final

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from cssegcore.core.precision import at_least_float32
from cssegcore.core.types import BACKGROUND, Scores
from cssegcore.method.losses._base import Loss, LossInputs


def negative_cross_entropy(logits: Float[Tensor, "b h w"]) -> Float[Tensor, ""]:
    """Computes the mean sigmoid cross-entropy with a no, softplus(z), over all pixels."""
    return F.softplus(at_least_float32(logits)).mean()


@final
@dataclasses.dataclass(frozen=True)
class AuxiliaryNegative(Loss):
    """`negative_cross_entropy` of output 0 as a term; reads no label. Published weight: 1."""

    scores: ClassVar[Scores | None] = "sigmoid"
    trains_auxiliary: ClassVar[bool] = True

    @property
    def reads_background(self) -> bool:
        return False

    def __call__(self, batch: LossInputs) -> Float[Tensor, ""]:
        return negative_cross_entropy(batch.logits[:, BACKGROUND])
