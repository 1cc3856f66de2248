"""LGKD's distillation: the label says which new class the old model's background was.

Yang et al., Label-Guided Knowledge Distillation for Continual Semantic Segmentation on 2D Images
and 3D Point Clouds, ICCV 2023; Ze-Yang/LGKD, utils/loss.py. MBS distils its outputs alike: Park et
al., Mitigating Background Shift in Class-Incremental Semantic Segmentation, ECCV 2024.
"""

import dataclasses
from typing import ClassVar, Literal, final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cssegcore.core.precision import at_least_float32
from cssegcore.core.types import BACKGROUND, IGNORE, Scores
from cssegcore.method._class_features import nearest_labels
from cssegcore.method.losses._base import Averaged, LossInputs


def label_guided_distillation(
    logits: Float[Tensor, "b c h w"],
    old_logits: Float[Tensor, "b k h w"],
    annotated: Int[Tensor, "b h w"],
    old: float = 1.0,
    new: float = 1.0,
) -> Float[Tensor, "b h w"]:
    """Computes each pixel's cross-entropy from the old model, among all outputs.

    At a pixel of a new class, the old model's probability of the background is that class's, and
    nothing is asked of the background; elsewhere targets are the old model's own. The sum runs over
    the classes.

    Args:
        logits: Scores of all c outputs.
        old_logits: Scores of the old model's k outputs.
        annotated: Outputs as annotated for the step. Anything but the new classes k..c-1, old
            classes and void too, leaves the targets as they are.
        old: Factor of the pixels without a new class.
        new: Factor of the pixels of new classes.
    """
    c, k = logits.shape[1], old_logits.shape[1]
    targets = at_least_float32(old_logits).softmax(1)
    told = at_least_float32(logits).log_softmax(1)
    is_new = (annotated >= k) & (annotated < c)
    heir = torch.where(is_new, annotated, BACKGROUND)
    kept = (targets[:, BACKGROUND + 1 :] * told[:, BACKGROUND + 1 : k]).sum(1)
    handed = targets[:, BACKGROUND] * told.gather(1, heir[:, None])[:, 0]
    each = -(kept + handed)
    return torch.where(is_new, new * each, old * each)


@final
@dataclasses.dataclass(frozen=True)
class LabelGuidedDistillation(Averaged):
    """`label_guided_distillation` as a term, a mean over pixels.

    Labels are the step's own, before pseudo-labels. Small maps take theirs from the upper left
    pixel of each block, as released. By default LGKD's; MBS has `size: full`, `average: all` and
    `classes: mean`.

    Deviation: a batch without a counted pixel gives 0, where the released function gives NaN.

    Attributes:
        old: Factor of the pixels without a new class.
        new: Factor of the pixels of new classes. The published pairs differ by scenario, up to
            twentyfold.
        size: Whether logits are compared before their enlargement (`small`) or after (`full`).
        average: Whether the mean is over all pixels, or over those that are not void, in which case
            void takes no part.
        classes: Whether classes are summed, or averaged over all c outputs.
    """

    average: Literal["all", "labelled"] = "labelled"
    old: float = 1.0
    new: float = 1.0
    size: Literal["small", "full"] = "small"
    classes: Literal["sum", "mean"] = "sum"

    needs_old: ClassVar[bool] = True
    scores: ClassVar[Scores | None] = "softmax"
    expects_background_at_0: ClassVar[bool] = True
    needs_new_classes: ClassVar[bool] = True
    reads_annotated: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, factor in (("old", self.old), ("new", self.new)):
            if not 0 <= factor < float("inf"):
                raise ValueError(f"`{name}` must be a finite number >= 0, got {factor}")
        if self.old == self.new == 0:
            raise ValueError("`old` and `new` are both 0, which leaves nothing: drop the term")

    @property
    def reads_lowres(self) -> bool:
        return self.size == "small"

    def __call__(self, batch: LossInputs) -> Float[Tensor, ""]:
        lowres = self.reads_lowres
        new, old = (
            seen.logits_lowres if lowres else seen.logits for seen in (batch.new, batch.old_outputs)
        )
        height, width = new.shape[-2:]
        annotated = nearest_labels(batch.annotated, (height, width)) if lowres else batch.annotated
        each = label_guided_distillation(new, old, annotated, self.old, self.new)
        if self.classes == "mean":
            each = each / new.shape[1]
        if self.average == "all":
            return each.mean()
        counted = annotated != IGNORE
        return torch.where(counted, each, 0).sum() / counted.sum().clamp(min=1)
