"""SSUL's pseudo-labels: old classes with a high sigmoid score.

Cha et al., SSUL: Semantic Segmentation with Unknown Label for Exemplar-based Class-Incremental
Learning, NeurIPS 2021, https://arxiv.org/abs/2106.11562.
"""

import dataclasses
from pathlib import Path
from typing import ClassVar, final

from jaxtyping import Float, Int
from torch import Tensor

from cssegcore.core.ranges import at_least, fraction
from cssegcore.core.types import Scores
from cssegcore.method._confident_labels import complete_labels
from cssegcore.method.pseudo_labels._base import LabelRequest, PseudoLabels
from cssegcore.method.pseudo_labels._writing import Ruling, Writer


@final
@dataclasses.dataclass(frozen=True)
class Sigmoid(PseudoLabels):
    """Labels background pixels with the old class of the highest sigmoid score, if it is high.

    It works on whole photographs. Pixels whose score is below the threshold stay background.

    Attributes:
        threshold: Lowest accepted score, in [0, 1]; 0.7 is published.
        batch_size: Photographs per forward pass.
    """

    threshold: float = 0.7
    batch_size: int = 4

    scores: ClassVar[Scores | None] = "sigmoid"

    def __post_init__(self) -> None:
        fraction(threshold=self.threshold)
        at_least(1, batch_size=self.batch_size)

    def write(self, out: Path, request: LabelRequest) -> None:
        writer = Writer(out, request, self.batch_size)
        known = len(writer.known)

        def rule(old_logits: Float[Tensor, "b k h w"], labels: Int[Tensor, "b h w"]) -> Ruling:
            background = old_logits.shape[1] - known  # 1 if the unknown class precedes it
            sure = complete_labels(old_logits, labels, self.threshold, background, "sigmoid")
            return Ruling(sure, old_logits.argmax(1) - background, sure != labels)

        writer.write(rule, [None] + [self.threshold] * (known - 1))
