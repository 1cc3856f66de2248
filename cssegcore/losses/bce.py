"""Sigmoid cross-entropy: each output says yes or no for itself.

Rebuffi et al., iCaRL, CVPR 2017, https://arxiv.org/abs/1611.07725 (its loss without its exemplars
is LwF-MC); Cha et al., SSUL, NeurIPS 2021, https://arxiv.org/abs/2106.11562.
"""

import dataclasses
from typing import ClassVar, final

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from cssegcore.losses._base import Average, Averaged, Pass
from cssegcore.precision import wide
from cssegcore.types import IGNORE, Scores


def yes_or_no(
    logits: Float[Tensor, "b c h w"], answer: Int[Tensor, "b h w"], given: Bool[Tensor, "b h w"]
) -> Float[Tensor, "b h w"]:
    """Sums over the outputs the cross-entropy of each one's yes or no.

    That of a no is softplus(z), of a yes softplus(-z) = softplus(z) - z. So all are a no, and one
    score a pixel is taken off: no one-hot map is built. Where the network is sure and right, the
    difference is right to the last digit of z, and its gradient to that of 1.

    Args:
        logits: Scores of c outputs.
        answer: The output whose answer is yes, in [0, c).
        given: Where there is one; elsewhere all outputs' answer is no.
    """
    logits = wide(logits)
    wanted = logits.gather(1, answer[:, None]).where(given[:, None], 0).squeeze(1)
    # beyond 50, softplus(z) is z in float64 too; PyTorch's own limit of 20 costs digits
    return F.softplus(logits, threshold=50).sum(1) - wanted


def binary_cross_entropy(
    logits: Float[Tensor, "b c h w"],
    labels: Int[Tensor, "b h w"],
    average: Average = "labelled",
) -> Float[Tensor, ""]:
    """Computes the mean of `yes_or_no` over pixels; those labelled 255 add nothing.

    Deviation: the published code of SSUL gives NaN where no pixel is labelled; this gives 0.

    Args:
        logits: Scores of all c outputs.
        labels: Network outputs, 255 ignored.
        average: `labelled`: the mean runs over labelled pixels (SSUL); `all`: over all (LwF-MC).
    """
    known = labels != IGNORE
    total = yes_or_no(logits, torch.where(known, labels, 0), known).where(known, 0).sum()
    return total / (labels.numel() if average == "all" else known.sum().clamp(min=1))


@final
@dataclasses.dataclass(frozen=True)
class BinaryCrossEntropy(Averaged):
    """`binary_cross_entropy` as a term."""

    average: Average = "labelled"

    scores: ClassVar[Scores | None] = "sigmoid"
    reads_labels: ClassVar[bool] = True

    def __call__(self, batch: Pass) -> Float[Tensor, ""]:
        return binary_cross_entropy(batch.logits, batch.labels, self.average)
