"""Boundary IoU: the IoU of the pixels near the contours, where small and thin things lie.

Cheng, Girshick, Dollár, Berg & Kirillov, Boundary IoU: Improving Object-Centric Image Segmentation
Evaluation, CVPR 2021, https://arxiv.org/abs/2103.16562
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import final

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Int, Int64
from torch import Tensor

from cssegcore.core.types import IGNORE
from cssegcore.evaluation.metrics._base import Metric, MetricValue, PredictedBatch, by_group
from cssegcore.metrics.confusion import ratio_of_overlap

OUTSIDE = -1
"""Label beyond the image's edge, which is a contour as in the paper's program."""


def near_contours(labels: Int[Tensor, "b h w"], distance: int) -> Bool[Tensor, "b h w"]:
    """Marks the pixels whose square window of 2 `distance` + 1 pixels has more than their label.

    They are, for every class at once, what `distance` erosions by 3 x 3 pixels take from its mask.
    """
    padded = F.pad(labels.float(), (distance,) * 4, value=OUTSIDE)[:, None]  # labels are exact
    highest, lowest = (_largest(sign * padded, 2 * distance + 1) * sign for sign in (1, -1))
    return (highest != lowest)[:, 0]


def _largest(values: Tensor, size: int) -> Tensor:
    return F.max_pool2d(F.max_pool2d(values, (size, 1), stride=1), (1, size), stride=1)


@final
@dataclasses.dataclass(frozen=True)
class BoundaryIoU(Metric):
    """The mean over classes, each counted over all test images, of its boundary IoU.

    A class's boundary are the pixels of its mask that lie within a distance of the mask's contour:
    on the one hand in the labels, on the other in the prediction.

    Void is no class, in neither: a prediction is not judged there, and its contour is void's. So a
    prediction that is right wherever it counts has 100, and a wide band of void flatters.

    Attributes:
        width: The distance, as a share of the image's diagonal, rounded to pixels; at least one.
    """

    width: float = 0.02

    def __post_init__(self) -> None:
        if not 0 < self.width <= 1:
            raise ValueError(f"`width` must lie in (0, 1], got {self.width}")

    def state(self, classes: int) -> Int64[Tensor, "3 k"]:
        return torch.zeros(3, classes, dtype=torch.int64)

    def update(self, state: Int64[Tensor, "3 k"], batch: PredictedBatch) -> None:
        truth = batch.labels
        predicted = torch.where(truth == IGNORE, IGNORE, batch.predicted)
        distance = max(1, round(self.width * math.hypot(*truth.shape[-2:])))
        true, found = near_contours(truth, distance), near_contours(predicted, distance)
        both = true & found & (truth == predicted)
        for row, labels in zip(state, (truth[both], truth[true], predicted[found]), strict=True):
            row += torch.bincount(labels, minlength=IGNORE + 1)[: len(row)]

    def compute(
        self,
        state: Int64[np.ndarray, "3 k"],
        matrix: Int64[np.ndarray, "k k"],
        groups: Mapping[str, Sequence[int]],
    ) -> MetricValue:
        del matrix
        return by_group(np.mean, ratio_of_overlap(*state), groups)
