"""SSUL's confident predictions of the previous model, which complete an annotation.

Cha et al., SSUL: Semantic Segmentation with Unknown Label for Exemplar-based Class-Incremental
Learning, NeurIPS 2021, https://arxiv.org/abs/2106.11562.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cssegcore.core.precision import at_least_float32
from cssegcore.core.types import Scores


def confident_labels(
    old_logits: Float[Tensor, "b k h w"],
    labels: Int[Tensor, "b h w"],
    threshold: float,
    first_class: int,
    scores: Scores,
) -> Int[Tensor, "b h w"]:
    """Replaces unknown and background by the old model's class where its score is high enough.

    The largest of all outputs must itself be a class: where unknown or background is above it, the
    label stays, however sure the class. Annotated classes and 255 stay.

    Deviation: the largest is found among logits. The released code looks among float32 scores, of
    which all above a logit of 17 are 1, and then takes the first.

    Args:
        old_logits: Logits of the old model.
        labels: Network outputs, 255 where there is no label.
        threshold: Least score that is believed.
        first_class: Output of the first class: 2 with an unknown class, 1 without.
        scores: Function from logits to scores.
    """
    exact = at_least_float32(old_logits)
    largest, predicted = exact.max(1)
    score = largest.sigmoid() if scores == "sigmoid" else (largest - exact.logsumexp(1)).exp()
    believed = (predicted >= first_class) & (score >= threshold)
    return torch.where((labels < first_class) & believed, predicted, labels)


def complete_labels(
    old_logits: Float[Tensor, "b k h w"],
    labels: Int[Tensor, "b h w"],
    threshold: float,
    background: int,
    scores: Scores,
) -> Int[Tensor, "b h w"]:
    """Applies `confident_labels` to labels without an unknown class.

    Args:
        old_logits: Logits of the old model.
        labels: 0 background, 1.. classes, 255 void.
        threshold: Least score that is believed.
        background: The model's output of the background: 1 after an unknown class, else 0.
        scores: Function from logits to scores.
    """
    outputs = labels + background  # void moves along, and back
    sure = confident_labels(old_logits, outputs, threshold, background + 1, scores)
    return sure - background
