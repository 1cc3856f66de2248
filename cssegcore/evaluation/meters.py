"""The metrics that `evaluation.metrics` names, counted while a model is tested."""

import math
from collections.abc import Mapping
from typing import Final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cssegcore.core.errors import InputError
from cssegcore.core.registry import build_part
from cssegcore.core.types import BACKGROUND, IGNORE
from cssegcore.evaluation.metrics import Metric, MetricValue, PredictedBatch
from cssegcore.metrics.confusion import Future, fold_future
from cssegcore.metrics.continual import Points
from cssegcore.metrics.record import Evaluated
from cssegcore.runtime.distributed import all_reduce_sum

METRICS: Final = "cssegcore.evaluation.metrics"

TAKEN: Final = (
    *("miou", "harmonic", "accuracy", "mean_accuracy", "fw_iou"),
    *("average", "forgetting", "backward_transfer", "future", "protocol", "protocols"),
    *("step", "steps", "images", "trainable_weights", "kept_bytes"),
)
"""Names of the numbers that every step and every run has."""


def build_metrics(recipes: Mapping[str, object], where: str) -> dict[str, Metric]:
    """Builds the metrics of the parameters `where` by the names their numbers get.

    Raises:
        InputError: A name is no identifier or is taken, or a recipe names no part that fits.
    """
    for name in recipes:
        if not (name.isidentifier() and name.isascii()):
            raise InputError(f"`{where}`: {name!r} must be made of letters, digits and `_`.")
        if any(name == taken or name.startswith(f"{taken}_") for taken in TAKEN):
            raise InputError(
                f"`{where}.{name}`: a number of every run is called so already; call it otherwise,"
                f" such as `my_{name}: {{part: …}}`."
            )
    return {
        name: build_part(METRICS, Metric, recipe, f"{where}.{name}")
        for name, recipe in recipes.items()
    }


class Meters:
    """The metrics of one test, over all batches and processes."""

    def __init__(
        self, metrics: Mapping[str, Metric], classes: int, future: Future, device: torch.device
    ) -> None:
        """Starts from nothing.

        Args:
            metrics: The metrics by name.
            classes: Number of outputs of the model.
            future: Treatment of pixels of classes to come.
            device: Device of the test.
        """
        self._metrics = metrics
        self._classes = classes
        self._future: Future = future
        self._states = {n: m.state(classes).to(device) for n, m in metrics.items()}

    def update(
        self,
        labels: Int[Tensor, "b h w"],
        predicted: Int[Tensor, "b h w"],
        logits: Float[Tensor, "b c h w"],
    ) -> None:
        """Counts a batch; `labels` are positions in the scenario's classes, 255 void."""
        if not self._metrics:
            return
        to_come = BACKGROUND if self._future == "background" else IGNORE
        coming = (labels >= self._classes) & (labels != IGNORE)
        batch = PredictedBatch(torch.where(coming, to_come, labels), predicted, logits)
        for name, metric in self._metrics.items():
            metric.update(self._states[name], batch)

    def gather(self) -> None:
        """Sums the states over the processes, once all have seen their batches."""
        self._states = {name: all_reduce_sum(state) for name, state in self._states.items()}

    def compute(self, record: Evaluated) -> dict[str, MetricValue]:
        """Returns the numbers by name; `record` is of the same test."""
        matrix, groups = fold_future(record.counts, self._future), record.groups()
        values = {
            name: metric.compute(self._states[name].cpu().numpy(), matrix, groups)
            for name, metric in self._metrics.items()
        }
        return {
            name: {key: _plain(each) for key, each in value.items()}
            if isinstance(value, Mapping)
            else _plain(value)
            for name, value in values.items()
        }


def _plain(value: Points) -> Points:
    """Returns a number for JSON: None for NaN and infinity."""
    return None if value is None or not math.isfinite(value) else float(value)
