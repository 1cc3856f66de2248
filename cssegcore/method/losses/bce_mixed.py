"""Sigmoid cross-entropy whose targets are the old model's for old outputs, labels for new ones.

The "disjoint" variant of LwF-MC in MiB's baselines, and iCaRL's own loss: Rebuffi et al.,
CVPR 2017, https://arxiv.org/abs/1611.07725, algorithm 3.
"""

import dataclasses
from typing import ClassVar, Literal, final

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from cssegcore.core.precision import at_least_float32
from cssegcore.core.types import BACKGROUND, IGNORE, Scores
from cssegcore.method.losses._base import Loss, LossInputs
from cssegcore.method.losses.bce import yes_or_no

Answers = Literal["old", "annotated"]
"""Whose answer is the background's target: the old model's, or the label's."""


def mixed_cross_entropy(
    logits: Float[Tensor, "b c h w"],
    old_logits: Float[Tensor, "b k h w"],
    labels: Int[Tensor, "b h w"],
    background: Answers = "old",
) -> Float[Tensor, ""]:
    """Computes the sigmoid cross-entropy: sum over outputs, mean over all pixels.

    Unlabelled pixels take part, as in the released code: there no new output, nor an annotated
    background, is wanted.

    Args:
        logits: Scores of all c outputs.
        old_logits: Scores of the old model's k < c outputs.
        labels: Network outputs, 255 where there is no label.
        background: See `Answers`.

    Raises:
        ValueError: There is no new output.
    """
    c, k = logits.shape[1], old_logits.shape[1]
    if not k < c:
        raise ValueError(f"mixed targets need a new output: old model {k}, new {c}")
    first = 0 if background == "old" else 1  # of the outputs that the old model answers for
    target = at_least_float32(old_logits[:, first:]).sigmoid()
    scores = at_least_float32(logits[:, first:k])
    total = F.binary_cross_entropy_with_logits(scores, target, reduction="sum")
    new = (labels >= k) & (labels != IGNORE)
    total = total + yes_or_no(logits[:, k:], torch.where(new, labels - k, 0), new).sum()
    if background == "annotated":
        only = torch.zeros_like(labels)
        total = total + yes_or_no(logits[:, :1], only, labels == BACKGROUND).sum()
    return total / labels.numel()


@final
@dataclasses.dataclass(frozen=True)
class MixedCrossEntropy(Loss):
    """`mixed_cross_entropy` as a term; it stands for classification and distillation at once."""

    background: Answers = "old"

    needs_old: ClassVar[bool] = True
    scores: ClassVar[Scores | None] = "sigmoid"
    is_supervised: ClassVar[bool] = True

    def __call__(self, batch: LossInputs) -> Float[Tensor, ""]:
        old = batch.old_outputs.logits
        return mixed_cross_entropy(batch.logits, old, batch.labels, self.background)
