"""The IoU of the class that the model does worst: a mean hides a class that is lost."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import final

import numpy as np
from jaxtyping import Int64, Shaped

from cssegcore.evaluation.metrics._base import Metric, MetricValue, by_group
from cssegcore.metrics.confusion import iou


@final
@dataclasses.dataclass(frozen=True)
class WorstClassIoU(Metric):
    """The smallest IoU of each group; classes without truth are left out."""

    def compute(
        self,
        state: Shaped[np.ndarray, "..."],
        matrix: Int64[np.ndarray, "k k"],
        groups: Mapping[str, Sequence[int]],
    ) -> MetricValue:
        del state
        return by_group(np.min, iou(matrix), groups)
