"""PLOP's pseudo-labels: the previous model is believed where it is sure, class by class.

Douillard et al., PLOP: Learning without Forgetting for Continual Semantic Segmentation, CVPR 2021,
https://arxiv.org/abs/2011.11390.
"""

import dataclasses
import math
from pathlib import Path
from typing import ClassVar, Literal, final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from cssegcore.core.precision import at_least_float32
from cssegcore.core.ranges import at_least, non_negative
from cssegcore.core.types import BACKGROUND, IGNORE, Scores
from cssegcore.method.pseudo_labels._base import LabelRequest, PseudoLabels
from cssegcore.method.pseudo_labels._writing import Ruling, Writer

ThresholdRule = Literal["released", "median"]
"""How a class's threshold comes of the entropies of its pixels."""

BINS: dict[ThresholdRule, int] = {"released": 100, "median": 1000}
"""Bins of [0, 1]. The paper leaves them open; a thousand make one as wide as the base threshold."""


def entropy_unit(num_old: int, num_classes: int, rule: ThresholdRule) -> float:
    """Returns what entropies (natural log, summed over classes) are divided by.

    "median" is the paper's: log(num_old), the most it can be, so that 1 is knowing nothing.
    "released" is the published program's, which takes the mean over classes where the sum is meant
    and divides by log(num_classes) as well: no score exceeds 1 / (num_old log(num_classes)).

    Args:
        num_old: Outputs of the previous model, background included.
        num_classes: Outputs with this step's.
        rule: Whose thresholds the scores are for.
    """
    if rule == "median":
        return math.log(num_old)
    return num_old * math.log(num_old + 1e-8) * math.log(num_classes)


def scores(
    old_logits: Float[Tensor, "b k h w"], unit: float
) -> tuple[Float[Tensor, "b h w"], Int[Tensor, "b h w"]]:
    """Computes the entropy of each pixel's softmax in `unit`s, and the most likely class.

    Deviation: p log p is 0 for p = 0, where the released code adds 1e-8 inside the logarithm.
    """
    entropy = torch.special.entr(at_least_float32(old_logits).softmax(1)).sum(1)
    # `argmax` finds the same, first of equals, and takes three times as long on a CPU
    return entropy / unit, old_logits.max(1).indices


def histogram(
    uncertainty: Float[Tensor, "b h w"],
    predicted: Int[Tensor, "b h w"],
    counted: Bool[Tensor, "b h w"],
    shape: tuple[int, int],
) -> Int[Tensor, "classes bins"]:
    """Counts the pixels `counted` by predicted class and by score, in equal bins of [0, 1]."""
    classes, bins = shape
    of = (bins * uncertainty).long().clamp(0, bins - 1)
    # the others get a cell of their own, as accumulator those counted would cost more
    cells = torch.where(counted, predicted * bins + of, classes * bins)
    return torch.bincount(cells.flatten(), minlength=classes * bins + 1)[:-1].reshape(classes, bins)


def released_thresholds(
    histograms: Int[Tensor, "classes bins"], base: float
) -> Float[Tensor, " classes"]:
    """Computes the thresholds of the published program, at least `base`.

    Meant as a median, it adds up the numbers of the bins and not what is in them. So a threshold
    lies in the first bin that alone holds half of the class's pixels, at the place where half of
    them would be reached; where no bin does, it is infinite and all is accepted, or `base` for a
    class of few pixels. Three bins of a hundred (29, 57, 58) are read one too low, as 0.29 * 100 is
    less than 29 in binary. A class without pixels, or without a number, has `base`.
    """
    counts = histograms.double()
    bins = counts.shape[1]
    edges = torch.arange(bins, dtype=torch.float64, device=counts.device) / bins
    held = counts[:, (edges * bins).long()]
    half = counts.sum(1, keepdim=True) / 2
    run = torch.cat([edges.new_zeros(1), (edges * bins).cumsum(0)])
    stops = (run[:-1] <= half) & (half <= run[:-1] + held)
    # the search that never stops ends at the last bin, its number added
    at = torch.where(stops.any(1), stops.int().argmax(1), bins - 1)[:, None]
    reached = torch.where(stops.any(1, keepdim=True), run[at], run[-1])
    found = (edges[at] + (half - reached) / held.gather(1, at) / bins)[:, 0]
    return _at_least(found, counts, base)


def median_thresholds(
    histograms: Int[Tensor, "classes bins"], base: float
) -> Float[Tensor, " classes"]:
    """Computes the paper's thresholds: each class's median score, at least `base`.

    Within a bin pixels count as spread evenly. A class without pixels has `base`.
    """
    counts = histograms.double()
    bins = counts.shape[1]
    half, up_to = counts.sum(1, keepdim=True) / 2, counts.cumsum(1)
    at = (up_to >= half).int().argmax(1, keepdim=True)
    held = counts.gather(1, at)
    found = (at + 1 - (up_to.gather(1, at) - half) / held)[:, 0] / bins
    return _at_least(found, counts, base)


def _at_least(
    found: Float[Tensor, " classes"], counts: Float[Tensor, "classes bins"], base: float
) -> Float[Tensor, " classes"]:
    usable = (counts.sum(1) > 0) & ~found.isnan()
    return torch.where(usable, found, base).clamp(min=base)


def accept(
    uncertainty: Float[Tensor, "b h w"],
    predicted: Int[Tensor, "b h w"],
    thresholds: Float[Tensor, " classes"],
) -> Bool[Tensor, "b h w"]:
    """Tells where the score lies below the predicted class's threshold."""
    return uncertainty < thresholds[predicted]


def relabel(
    labels: Int[Tensor, "b h w"],
    background: Bool[Tensor, "b h w"],
    predicted: Int[Tensor, "b h w"],
    accepted: Bool[Tensor, "b h w"],
) -> Int[Tensor, "b h w"]:
    """Labels background pixels by accepted predictions (background among them), 255 elsewhere."""
    return torch.where(background, torch.where(accepted, predicted, IGNORE), labels)


THRESHOLDS = {"released": released_thresholds, "median": median_thresholds}


@final
@dataclasses.dataclass(frozen=True)
class Entropy(PseudoLabels):
    """Believes a prediction whose entropy is below a threshold of its class's own.

    Deviation: thresholds and labels come of whole photographs, once; the released code takes them
    of augmented views, the thresholds once and on each process's share of the images alone.

    Attributes:
        threshold: The least a threshold can be.
        rule: "released" is the published program, "median" the paper.
        batch_size: Photographs at a time.
    """

    threshold: float = 0.001
    rule: ThresholdRule = "released"
    batch_size: int = 4

    scores: ClassVar[Scores | None] = "softmax"
    expects_background_at_0: ClassVar[bool] = True

    def __post_init__(self) -> None:
        non_negative(threshold=self.threshold)
        at_least(1, batch_size=self.batch_size)

    def write(self, out: Path, request: LabelRequest) -> None:
        writer = Writer(out, request, self.batch_size)
        unit = entropy_unit(len(writer.known), writer.total, self.rule)
        thresholds = self.thresholds(writer, unit)

        def rule(logits: Float[Tensor, "b k h w"], labels: Int[Tensor, "b h w"]) -> Ruling:
            uncertainty, predicted = scores(logits, unit)
            accepted = accept(uncertainty, predicted, thresholds.to(logits.device))
            labelled = relabel(labels, labels == BACKGROUND, predicted, accepted)
            return Ruling(labelled, predicted, accepted)

        # no score exceeds 1: for the reader that is as good as infinity, which JSON lacks
        writer.write(rule, thresholds.clamp(max=1).tolist())

    def thresholds(self, writer: Writer, unit: float) -> Float[Tensor, " k"]:
        """Finds each class's threshold on the pixels that the step's own list leaves open.

        The model runs twice over the list, here and for the labels: keeping what it says would
        take five bytes a pixel, some gigabytes for a benchmark's base classes, and saves less time
        than an epoch of training takes.
        """
        shape = (len(writer.known), BINS[self.rule])
        total = torch.zeros(shape, dtype=torch.int64)
        for _, logits, labels in writer.predictions("train"):
            total += histogram(*scores(logits, unit), labels == BACKGROUND, shape).cpu()
        return THRESHOLDS[self.rule](total, self.threshold)
