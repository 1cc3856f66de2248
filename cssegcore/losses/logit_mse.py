"""Squared distance of the old outputs' scores: how synthetic images were published to be used."""

import dataclasses
from typing import ClassVar, final

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from cssegcore.losses._base import Loss, Pass
from cssegcore.precision import wide
from cssegcore.types import Scores


def logit_mse(
    logits: Float[Tensor, "b c h w"], old_logits: Float[Tensor, "b k h w"]
) -> Float[Tensor, ""]:
    """Averages the squared distance of the first k <= c scores from the old model's.

    Raw scores, background's too; new outputs take part in nothing. It has no bound: where the
    network's normalisation differs from the old model's, a weight of 1 may diverge.
    """
    return F.mse_loss(wide(logits[:, : old_logits.shape[1]]), wide(old_logits))


@final
@dataclasses.dataclass(frozen=True)
class LogitMse(Loss):
    """`logit_mse` as a term. The published weight is 1."""

    needs_old: ClassVar[bool] = True
    scores: ClassVar[Scores | None] = "softmax"

    def __call__(self, batch: Pass) -> Float[Tensor, ""]:
        return logit_mse(batch.logits, batch.old_outputs.logits)
