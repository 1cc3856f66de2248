"""DKD's and STAR's binary cross-entropy, which teaches the new classes alone.

Baek et al., Decomposed Knowledge Distillation for Class-Incremental Semantic Segmentation (DKD),
NeurIPS 2022, https://arxiv.org/abs/2210.05941; cvlab-yonsei/DKD, models/loss.py.
"""

import dataclasses
from typing import ClassVar, final

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from cssegcore.core.precision import at_least_float32
from cssegcore.core.ranges import positive
from cssegcore.core.types import Scores
from cssegcore.method.losses._base import Loss, LossInputs
from cssegcore.method.losses.bce import yes_or_no


def new_class_cross_entropy(
    logits: Float[Tensor, "b c h w"],
    labels: Int[Tensor, "b h w"],
    num_old: int,
    positive_weight: float = 1.0,
) -> Float[Tensor, "b h w"]:
    """Sums the sigmoid cross-entropy over the new classes, pixel by pixel.

    Pixels without a new class, void ones too, are negative for each of them. A positive counts
    `positive_weight` times.

    Args:
        logits: Scores of all c outputs; the first `num_old` are left alone.
        labels: Network outputs, 255 void.
        num_old: Outputs of the old model, the background's place counted; 1 in the base step.
        positive_weight: Weight of a positive output.
    """
    new = at_least_float32(logits[:, num_old:])
    given = (labels >= num_old) & (labels < logits.shape[1])
    answer = torch.where(given, labels - num_old, 0).long()
    each = yes_or_no(new, answer, given)
    if positive_weight == 1:
        return each
    yes = F.softplus(-new.gather(1, answer[:, None]).squeeze(1)).where(given, 0)
    return each + (positive_weight - 1) * yes


@final
@dataclasses.dataclass(frozen=True)
class NewClassCrossEntropy(Loss):
    """The mean of `new_class_cross_entropy` over all pixels, by the annotated labels, as a term.

    Attributes:
        positive: Weight of a positive output. Published: DKD 2 in the base step and 1 later on VOC,
            35 on ADE20K; STAR 4 and 30.
    """

    positive: float = 1.0

    scores: ClassVar[Scores | None] = "sigmoid"
    is_supervised: ClassVar[bool] = True
    needs_new_classes: ClassVar[bool] = True
    reads_annotated: ClassVar[bool] = True
    void_is_no: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(positive=self.positive)

    @property
    def reads_background(self) -> bool:
        return False

    def __call__(self, batch: LossInputs) -> Float[Tensor, ""]:
        return new_class_cross_entropy(
            batch.logits, batch.annotated, batch.num_old, self.positive
        ).mean()
