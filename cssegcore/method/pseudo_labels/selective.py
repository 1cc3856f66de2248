"""MBS's selective pseudo-labels: neither an old class for sure nor background does not train.

Park et al., Mitigating Background Shift in Class-Incremental Semantic Segmentation, ECCV 2024;
RoadoneP/ECCV2024_MBS, main.py.
"""

import dataclasses
from pathlib import Path
from typing import ClassVar, final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cssegcore.core.precision import at_least_float32
from cssegcore.core.ranges import at_least, fraction
from cssegcore.core.types import BACKGROUND, IGNORE, Scores
from cssegcore.method._confident_labels import complete_labels
from cssegcore.method.pseudo_labels._base import LabelRequest, PseudoLabels
from cssegcore.method.pseudo_labels._writing import Ruling, Writer


def select_labels(
    old_logits: Float[Tensor, "b k h w"], labels: Int[Tensor, "b h w"], threshold: float
) -> Int[Tensor, "b h w"]:
    """Completes an annotation's background, and voids doubtful pixels.

    Background becomes the old model's class where that has the largest softmax, of `threshold` or
    more; and void where the old model's background is less probable than its classes together.

    Args:
        old_logits: Logits of the previous model, background first.
        labels: 0 background, 1.. the classes seen, 255 void.
        threshold: Least probability that is accepted.
    """
    sure = complete_labels(old_logits, labels, threshold, BACKGROUND, "softmax")
    scores = at_least_float32(old_logits).softmax(1)
    unlikely = scores[:, BACKGROUND] < scores[:, BACKGROUND + 1 :].sum(1)
    return torch.where((sure == BACKGROUND) & unlikely, IGNORE, sure)


@final
@dataclasses.dataclass(frozen=True)
class Selective(PseudoLabels):
    """`select_labels` on the whole photograph.

    Deviation: labels come of whole photographs, once; the released code takes them of augmented
    views, in every iteration.

    Attributes:
        threshold: Least probability that is accepted; 0.7 is published.
        batch_size: Photographs at a time.
    """

    threshold: float = 0.7
    batch_size: int = 4

    scores: ClassVar[Scores | None] = "softmax"
    expects_background_at_0: ClassVar[bool] = True

    def __post_init__(self) -> None:
        fraction(threshold=self.threshold)
        at_least(1, batch_size=self.batch_size)

    def write(self, out: Path, request: LabelRequest) -> None:
        writer = Writer(out, request, self.batch_size)

        def rule(old_logits: Float[Tensor, "b k h w"], labels: Int[Tensor, "b h w"]) -> Ruling:
            selected, predicted = (
                select_labels(old_logits, labels, self.threshold),
                old_logits.argmax(1),
            )
            return Ruling(selected, predicted, selected == predicted)

        writer.write(rule, [None] + [self.threshold] * (len(writer.known) - 1))
