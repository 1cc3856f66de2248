"""MiB's unbiased cross-entropy: "background" means "no new class", old classes included.

Cermelli et al., Modeling the Background for Incremental Learning in Semantic Segmentation,
CVPR 2020, https://arxiv.org/abs/2002.00718.
"""

import dataclasses
from typing import ClassVar, final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cssegcore.core.precision import at_least_float32
from cssegcore.core.types import BACKGROUND, IGNORE, Scores
from cssegcore.method.losses._base import Average, Averaged, LossInputs
from cssegcore.method.losses.ce import cross_entropy


def unbiased_cross_entropy(
    logits: Float[Tensor, "b c h w"],
    labels: Int[Tensor, "b h w"],
    num_old: int,
    average: Average = "all",
) -> Float[Tensor, ""]:
    """Computes cross-entropy with the old outputs summed into the background's probability.

    Any label below `num_old` counts as background. The log-sum-exp of the old logits stands for
    them as one logit: the softmax over it and the new logits is the summed softmax.

    Args:
        logits: Scores of all c outputs.
        labels: Outputs as annotated, 255 ignored.
        num_old: Outputs of the old model, background included; with 1 this is cross-entropy.
        average: See `cross_entropy`.

    Raises:
        ValueError: `num_old` does not lie in [1, c].
    """
    if not 1 <= num_old <= logits.shape[1]:
        raise ValueError(f"`num_old` must lie in [1, {logits.shape[1]}], got {num_old}")
    scores = at_least_float32(logits)
    background = scores[:, :num_old].logsumexp(1, keepdim=True)
    merged = torch.cat([background, scores[:, num_old:]], 1)
    shifted = torch.where(labels < num_old, BACKGROUND, labels - num_old + 1)
    return cross_entropy(merged, torch.where(labels == IGNORE, IGNORE, shifted), average)


@final
@dataclasses.dataclass(frozen=True)
class UnbiasedCrossEntropy(Averaged):
    """`unbiased_cross_entropy` as a term."""

    scores: ClassVar[Scores | None] = "softmax"
    is_supervised: ClassVar[bool] = True
    expects_background_at_0: ClassVar[bool] = True
    needs_new_classes: ClassVar[bool] = True

    def __call__(self, batch: LossInputs) -> Float[Tensor, ""]:
        return unbiased_cross_entropy(batch.logits, batch.labels, batch.num_old, self.average)
