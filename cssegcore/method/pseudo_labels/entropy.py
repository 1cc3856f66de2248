"""PLOP's pseudo-labels: predictions of the old model with low entropy, by a threshold per class.

Douillard et al., PLOP: Learning without Forgetting for Continual Semantic Segmentation, CVPR 2021,
https://arxiv.org/abs/2011.11390.
"""

import dataclasses
import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Literal, final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from cssegcore.core.errors import InputWarning
from cssegcore.core.precision import at_least_float32
from cssegcore.core.ranges import at_least, non_negative
from cssegcore.core.types import BACKGROUND, IGNORE, Scores
from cssegcore.method.pseudo_labels._base import LabelRequest, PseudoLabels
from cssegcore.method.pseudo_labels._writing import Ruling, Writer
from cssegcore.runtime.distributed import world

ThresholdRule = Literal["released", "median"]
"""Rule that derives a class's threshold from the entropies of its pixels."""

BINS: dict[ThresholdRule, int] = {"released": 100, "median": 1000}
"""Number of histogram bins of [0, 1]. The paper states none; with 1000 a bin is as wide as the
published base threshold."""

LOST = 0.01
"""Share of the predicted pixels from which on a class with none accepted is worth a warning."""


def entropy_unit(num_old: int, num_classes: int, rule: ThresholdRule) -> float:
    """Returns the divisor of an entropy (natural logarithm, summed over classes).

    "median" divides by log(num_old), the largest possible entropy, as the paper does; scores lie in
    [0, 1]. "released" follows the published program, which takes the mean over classes instead of
    the sum and also divides by log(num_classes): no score exceeds 1 / (num_old log(num_classes)).

    Args:
        num_old: Number of outputs of the old model, background included.
        num_classes: Number of outputs after this step.
        rule: Threshold rule that will read the scores.
    """
    if rule == "median":
        return math.log(num_old)
    return num_old * math.log(num_old + 1e-8) * math.log(num_classes)


def scores(
    old_logits: Float[Tensor, "b k h w"], unit: float
) -> tuple[Float[Tensor, "b h w"], Int[Tensor, "b h w"]]:
    """Computes each pixel's softmax entropy divided by `unit`, and its most likely class.

    Deviation: p log p is 0 for p = 0; the released code adds 1e-8 inside the logarithm.

    Args:
        old_logits: The old model's logits, float.
        unit: Divisor, from `entropy_unit`.
    """
    entropy = torch.special.entr(at_least_float32(old_logits).softmax(1)).sum(1)
    # `argmax` gives the same class (the first of equals) but takes three times as long on a CPU
    return entropy / unit, old_logits.max(1).indices


def histogram(
    uncertainty: Float[Tensor, "b h w"],
    predicted: Int[Tensor, "b h w"],
    counted: Bool[Tensor, "b h w"],
    shape: tuple[int, int],
) -> Int[Tensor, "classes bins"]:
    """Counts pixels by predicted class and score.

    Args:
        uncertainty: Scores in [0, 1].
        predicted: Class ids below `shape[0]`.
        counted: True at the pixels to count.
        shape: Number of classes and number of equal bins of [0, 1].
    """
    classes, bins = shape
    of = (bins * uncertainty).long().clamp(0, bins - 1)
    # pixels left out go to one extra cell: selecting the counted ones first would cost more
    cells = torch.where(counted, predicted * bins + of, classes * bins)
    return torch.bincount(cells.flatten(), minlength=classes * bins + 1)[:-1].reshape(classes, bins)


def released_thresholds(
    histograms: Int[Tensor, "classes bins"], base: float
) -> Float[Tensor, " classes"]:
    """Computes the thresholds of the published program, at least `base`.

    The program means to find a median, but it accumulates bin numbers instead of bin counts. So a
    threshold lies in the first bin that alone holds half of the class's pixels, at the point where
    half of them is reached. If no bin does, the threshold is infinite and accepts every pixel; for
    a class of few pixels it is `base`. Three of the hundred bins (29, 57, 58) are read one too low,
    because 0.29 * 100 is less than 29 in binary. A class without pixels, or whose threshold is NaN,
    has `base`.
    """
    counts = histograms.double()
    bins = counts.shape[1]
    edges = torch.arange(bins, dtype=torch.float64, device=counts.device) / bins
    held = counts[:, (edges * bins).long()]
    half = counts.sum(1, keepdim=True) / 2
    run = torch.cat([edges.new_zeros(1), (edges * bins).cumsum(0)])
    stops = (run[:-1] <= half) & (half <= run[:-1] + held)
    # a search that finds no bin ends at the last one, with its number added
    at = torch.where(stops.any(1), stops.int().argmax(1), bins - 1)[:, None]
    reached = torch.where(stops.any(1, keepdim=True), run[at], run[-1])
    found = (edges[at] + (half - reached) / held.gather(1, at) / bins)[:, 0]
    return _at_least(found, counts, base)


def median_thresholds(
    histograms: Int[Tensor, "classes bins"], base: float
) -> Float[Tensor, " classes"]:
    """Computes the paper's thresholds: each class's median score, at least `base`.

    Pixels are taken as evenly spread within a bin. A class without pixels has `base`.
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
    """Returns a mask of the pixels whose score is below their predicted class's threshold."""
    return uncertainty < thresholds[predicted]


def relabel(
    labels: Int[Tensor, "b h w"],
    background: Bool[Tensor, "b h w"],
    predicted: Int[Tensor, "b h w"],
    accepted: Bool[Tensor, "b h w"],
) -> Int[Tensor, "b h w"]:
    """Replaces the label of each background pixel: by its prediction if accepted, else by 255.

    An accepted prediction may be background itself. Other labels stay.
    """
    return torch.where(background, torch.where(accepted, predicted, IGNORE), labels)


THRESHOLDS = {"released": released_thresholds, "median": median_thresholds}


@final
@dataclasses.dataclass(frozen=True)
class Entropy(PseudoLabels):
    """Accepts a prediction whose entropy is below its class's threshold.

    Deviation: thresholds and labels are computed once, on whole photographs. The released code
    computes labels on augmented crops in every iteration, and thresholds once, in each process on
    that process's images alone.

    Attributes:
        threshold: Lower bound of every class's threshold.
        rule: "released" as in the published program, "median" as in the paper.
        batch_size: Photographs per forward pass.
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

        # JSON has no infinity; no score exceeds 1, so 1 accepts the same pixels
        self._warn(writer.write(rule, thresholds.clamp(max=1).tolist()))

    def _warn(self, told: Sequence[tuple[str, int, int]]) -> None:
        """Says which classes lost all their pixels, if they had many: a training would forget them.

        The released rule ends below all scores of a class where these are nearly equal, as those of
        class tokens are: normalised scores have a largest one.
        """
        many = LOST * sum(predicted for _, predicted, _ in told)
        lost = [f"{name} ({n} pixels)" for name, n, taken in told if n > many and not taken]
        if lost and world().is_main:
            released = self.rule == "released"
            way = "set `rule` to median" if released else "raise `threshold`"
            warnings.warn(
                f"no pixel is accepted that the previous model takes for {', '.join(lost)}: all of"
                " them count as unlabelled, and the step may forget the class. All of their scores"
                f" lie above the class's threshold: {way} in `method.pseudo_labels`.",
                InputWarning,
                stacklevel=2,
            )

    def thresholds(self, writer: Writer, unit: float) -> Float[Tensor, " k"]:
        """Computes each class's threshold on the background pixels of the step's training list.

        The old model runs twice over the list, here and for the labels. Storing its scores would
        take five bytes a pixel (gigabytes for a benchmark's base step) and save less time than one
        training epoch takes.
        """
        shape = (len(writer.known), BINS[self.rule])
        total = torch.zeros(shape, dtype=torch.int64)
        for _, logits, labels in writer.predictions("train"):
            total += histogram(*scores(logits, unit), labels == BACKGROUND, shape).cpu()
        return THRESHOLDS[self.rule](writer.total_of(total), self.threshold)
