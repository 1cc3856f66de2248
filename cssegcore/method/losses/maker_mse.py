"""Squared distance of scores from those of the models that made the images."""

import dataclasses
from typing import ClassVar, final

from jaxtyping import Float
from torch import Tensor

from cssegcore.core.precision import at_least_float32
from cssegcore.core.types import Scores
from cssegcore.method.losses._base import Loss, Pass


def maker_distance(
    logits: Float[Tensor, "b c h w"], taught: Float[Tensor, "b k h w"]
) -> Float[Tensor, ""]:
    """Averages the squared distance of raw scores, background's too, over what makers know.

    Outputs that an image's maker does not know take part in nothing. As published for images made
    by one model (see docs/methods.md): the mean over all pixels and its outputs. It has no bound.

    Args:
        logits: Scores of all c outputs.
        taught: Those of each image's maker for the first k <= c outputs, -inf for outputs that it
            does not know, in every pixel alike.
    """
    target = at_least_float32(taught)
    known = target.isfinite()
    apart = (at_least_float32(logits[:, : taught.shape[1]]) - target.where(known, 0)).square()
    return apart.where(known, 0).sum() / known.sum()


@final
@dataclasses.dataclass(frozen=True)
class MakerMse(Loss):
    """`maker_distance` as a term. The published weight is 1."""

    needs_makers: ClassVar[bool] = True
    scores: ClassVar[Scores | None] = "softmax"
    whole_batch: ClassVar[bool] = True

    def __call__(self, batch: Pass) -> Float[Tensor, ""]:
        return maker_distance(batch.logits, batch.makers_scores)
