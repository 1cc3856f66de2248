"""PLOP's cross-entropy on pseudo-labels: an image counts as far as its pseudo-labels are believed.

Douillard et al., PLOP: Learning without Forgetting for Continual Semantic Segmentation, CVPR 2021,
https://arxiv.org/abs/2011.11390.
"""

import dataclasses
from typing import ClassVar, final

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from cssegcore.core.precision import at_least_float32
from cssegcore.core.ranges import fraction
from cssegcore.core.types import IGNORE, Scores
from cssegcore.method.losses._base import Loss, LossInputs


def accepted_share(
    labels: Int[Tensor, "b h w"],
    annotated: Int[Tensor, "b h w"],
    num_old: int,
    min_share: float = 0.0,
) -> Float[Tensor, " b"]:
    """Computes the share of each image's background pixels that kept a label.

    Deviation: 0 for an image without background, as released, where the paper's ratio is undefined.
    """
    background = annotated < num_old
    kept = background & (labels != IGNORE)
    share = kept.flatten(1).sum(1) / (background.flatten(1).sum(1) + 1e-6)
    return share.clamp(min=min_share)


def adaptive_cross_entropy(
    logits: Float[Tensor, "b c h w"],
    labels: Int[Tensor, "b h w"],
    annotated: Int[Tensor, "b h w"],
    num_old: int,
    min_factor: float = 0.0,
) -> Float[Tensor, ""]:
    """Computes cross-entropy, each image times its `accepted_share`, over all pixels of the batch.

    Args:
        logits: Scores of all c outputs.
        labels: Outputs, pseudo-labels included; 255 ignored, refused pseudo-labels among them.
        annotated: Outputs as annotated, where anything below `num_old` is background; 255 is void.
        num_old: Outputs of the old model, background included.
        min_factor: The least an image counts; 0, as published, leaves out an image all of whose
            pseudo-labels are refused, or that has no background.
    """
    share = accepted_share(labels, annotated, num_old, min_factor)
    each = F.cross_entropy(at_least_float32(logits), labels, ignore_index=IGNORE, reduction="none")
    return (share * each.flatten(1).sum(1)).sum() / labels.numel()


@final
@dataclasses.dataclass(frozen=True)
class AdaptiveCrossEntropy(Loss):
    """`adaptive_cross_entropy` as a term."""

    min_factor: float = 0.0

    scores: ClassVar[Scores | None] = "softmax"
    is_supervised: ClassVar[bool] = True
    expects_background_at_0: ClassVar[bool] = True
    needs_pseudo_labels: ClassVar[bool] = True
    reads_old_labels: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        fraction(min_factor=self.min_factor)

    def __call__(self, batch: LossInputs) -> Float[Tensor, ""]:
        return adaptive_cross_entropy(
            batch.logits, batch.labels, batch.annotated, batch.num_old, self.min_factor
        )
