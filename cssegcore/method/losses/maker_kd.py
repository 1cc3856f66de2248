"""Unbiased distillation from the models that made the images."""

import dataclasses
from typing import ClassVar, final

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from cssegcore.core.precision import at_least_float32
from cssegcore.core.types import Scores
from cssegcore.method.losses._base import Loss, Pass


def maker_distillation(
    logits: Float[Tensor, "b c h w"], taught: Float[Tensor, "b k h w"]
) -> Float[Tensor, ""]:
    """Computes MiB's unbiased distillation (`unbiased_kd`), with a teacher for each image.

    What a maker calls background may be of any class that was learned after it: those outputs are
    summed into the background, image by image. Where all makers know all k outputs and c > k, it is
    `unbiased_distillation`, whose mean over the outputs it keeps.

    Args:
        logits: Scores of all c outputs.
        taught: Those of each image's maker for the first k <= c outputs, -inf for outputs that it
            does not know, in every pixel alike; background is known.
    """
    scores, target = at_least_float32(logits), at_least_float32(taught)
    known = F.pad(
        target[:, :, :1, :1].isfinite(), (0, 0, 0, 0, 0, scores.shape[1] - target.shape[1])
    )
    foreground = known.clone()
    foreground[:, 0] = False
    background = scores.masked_fill(foreground, -torch.inf).logsumexp(1)
    said = target.softmax(1)
    agreed = (said * scores[:, : target.shape[1]])[:, 1:].sum(1) + said[:, 0] * background
    return ((scores.logsumexp(1) - agreed) / known.sum(1)).mean()


@final
@dataclasses.dataclass(frozen=True)
class MakerDistillation(Loss):
    """`maker_distillation` as a term. 10 is published for `unbiased_kd`."""

    needs_makers: ClassVar[bool] = True
    scores: ClassVar[Scores | None] = "softmax"
    background_first: ClassVar[bool] = True

    def __call__(self, batch: Pass) -> Float[Tensor, ""]:
        return maker_distillation(batch.logits, batch.makers_scores)
