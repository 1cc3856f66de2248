"""Interface of a metric."""

import abc
import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float, Float64, Int, Int64, Shaped
from torch import Tensor

from cssegcore.metrics.continual import Points, points

MetricValue = Points | Mapping[str, Points]
"""One number, or several by name. Fractions are in points (0–100); None is "undefined"."""


@dataclasses.dataclass(frozen=True)
class PredictedBatch:
    """Test images of one size and their predictions.

    Attributes:
        labels: True outputs of the model; 255 where nothing counts. Classes to come are background
            or 255 already, as the parameter `evaluation.future` says.
        predicted: Predicted outputs of the model.
        logits: The model's scores; with an unknown class it is in front, and without an output
            for the background the constant 0 is.
    """

    labels: Int[Tensor, "b h w"]
    predicted: Int[Tensor, "b h w"]
    logits: Float[Tensor, "b c h w"]


class Metric(abc.ABC):
    """The settings of a metric; the dataclass of a part.

    A metric that the confusion matrix is enough for has `compute` alone. Another one has a state: a
    tensor of sums over pixels or images, so that the states of several processes add up. Integers
    add up to the same in any order.
    """

    def state(self, classes: int) -> Shaped[Tensor, "..."]:
        """Returns the state before the first batch, by default an empty one.

        Args:
            classes: Outputs of the model, background included.
        """
        del classes
        return torch.zeros(0, dtype=torch.int64)

    def update(self, state: Shaped[Tensor, "..."], batch: PredictedBatch) -> None:
        """Adds a batch to the state, in place; by default does nothing."""
        return

    @abc.abstractmethod
    def compute(
        self,
        state: Shaped[np.ndarray, "..."],
        matrix: Int64[np.ndarray, "k k"],
        groups: Mapping[str, Sequence[int]],
    ) -> MetricValue:
        """Returns the numbers to show.

        Args:
            state: Sum of the states of all images.
            matrix: The confusion matrix of the model's outputs (row: truth), in pixels.
            groups: Outputs by the names that means are taken under: `all`, `old`, `new`, `base`,
                `added` and the same without background (`all_nobg`, …); some are empty.
        """


def by_group(
    reduce: Callable[[Float64[np.ndarray, " n"]], float],
    fractions: Float64[np.ndarray, " k"],
    groups: Mapping[str, Sequence[int]],
) -> dict[str, Points]:
    """Returns each group's number in points.

    Args:
        reduce: Turns the values of a group that are defined into one; NaN is "undefined".
        fractions: One value per output; NaN where it is undefined.
        groups: Argument `groups` of `Metric.compute`.
    """
    known = {name: fractions[list(members)] for name, members in groups.items()}
    known = {name: values[~np.isnan(values)] for name, values in known.items()}
    return {name: points(reduce(v)) if v.size else None for name, v in known.items()}
