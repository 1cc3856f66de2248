"""The metrics of a step from label maps."""

from collections.abc import Sequence
from typing import Any, get_args

import numpy as np
import torch
from jaxtyping import Int64
from numpy.typing import NDArray

from cssegcore.core.config import shown
from cssegcore.core.errors import InputError
from cssegcore.core.types import IGNORE
from cssegcore.data.arrays import ArrayStream, kind
from cssegcore.metrics.confusion import Future
from cssegcore.metrics.continual import protocol_line, step_scores
from cssegcore.metrics.counting import confusion_matrix
from cssegcore.metrics.record import Evaluated

BACKGROUND_NAME = "background"


def compute_confusion(
    labels: ArrayStream,
    predictions: ArrayStream,
    classes: Sequence[Sequence[str]],
    step: int | None = None,
) -> Int64[np.ndarray, "c k"]:
    """Counts pixels by true class (row) and predicted class (column), void left out.

    Matrices of several batches add up.

    Args:
        labels: True labels, (h, w) each: 0 background, then all classes in learning order; 255
            void.
        predictions: Predicted labels of the same shapes.
        classes: The classes that each step learns, background left out; those to come have rows of
            their own, and no columns.
        step: Index of the step whose model predicted; None: the last.

    Returns:
        Rows for the background and all classes, columns for those that the model knows.

    Raises:
        InputError: Shapes differ, or a label is beyond the classes.
    """
    learned, seen = _arrivals(classes, step)
    labels, predictions = list(labels), list(predictions)
    matrix = np.zeros((len(learned), seen), np.int64)
    if len(labels) != len(predictions):
        raise InputError(
            f"there are {len(labels)} label maps and {len(predictions)} predictions: give one"
            " prediction a label map."
        )
    for at, (true, predicted) in enumerate(zip(labels, predictions, strict=True)):
        _check(at, true, predicted, len(learned), seen)
        truth, prediction = (torch.from_numpy(np.asarray(a, np.int64)) for a in (true, predicted))
        matrix += confusion_matrix(truth, prediction, len(learned), seen).numpy()
    return matrix


def compute_metrics(
    matrix: Int64[np.ndarray, "c k"],
    classes: Sequence[Sequence[str]],
    step: int | None = None,
    *,
    future: Future = "background",
) -> dict[str, Any]:
    """Computes the numbers of a step's `metrics.json` that a confusion matrix is enough for.

    Args:
        matrix: Result of `compute_confusion`.
        classes: The classes that each step learns, background left out.
        step: Index of the step whose model predicted; None: the last.
        future: Whether pixels of classes to come count as background, as in PLOP, or `ignore`, as
            in MiB.

    Returns:
        `miou` by group of classes, `harmonic`, `accuracy`, `mean_accuracy` and `fw_iou` in points
        (0 to 100), None where undefined; and `protocol`, the rules of counting.

    Raises:
        InputError: The matrix does not fit the classes.
    """
    learned, seen = _arrivals(classes, step)
    if future not in get_args(Future):
        raise InputError(f"`future` is {shown(future)}: it may be {' or '.join(get_args(Future))}.")
    if matrix.shape != (len(learned), seen):
        raise InputError(
            f"the matrix has shape {matrix.shape}, and these classes need {(len(learned), seen)}:"
            " a row for the background and each class, a column for each that is learned."
        )
    index = len(classes) - 1 if step is None else step
    names = [BACKGROUND_NAME, *(name for added in classes for name in added)]
    record = Evaluated(
        step=f"step{index}",
        index=index,
        classes=names,
        learned=learned,
        seen=seen,
        images=0,
        matrix=matrix.tolist(),
    )
    return {**step_scores(record, future), "protocol": protocol_line(future)}


def _arrivals(classes: Sequence[Sequence[str]], step: int | None) -> tuple[list[int], int]:
    """Returns the step of each class, background first, and how many the model knows."""
    last = len(classes) - 1 if step is None else step
    if not 0 <= last < len(classes):
        raise InputError(
            f"`step` is {step}, and `classes` lists {len(classes)} steps: count them from 0."
        )
    learned = [0, *(at for at, added in enumerate(classes) for _ in added)]
    return learned, sum(at <= last for at in learned)


def _check(at: int, true: NDArray[Any], predicted: NDArray[Any], rows: int, columns: int) -> None:
    for name, array in (("label map", true), ("prediction", predicted)):
        if not isinstance(array, np.ndarray) or array.dtype.kind not in "iu":
            raise InputError(f"{name} {at} has type {kind(array)}: give an array of whole numbers.")
    if true.shape != predicted.shape:
        raise InputError(
            f"label map {at} has shape {true.shape}, its prediction {predicted.shape}: predict at"
            " the photograph's own size."
        )
    for name, array, bound in (
        ("label map", true[true != IGNORE], rows),
        ("prediction", predicted, columns),
    ):
        if array.size and not 0 <= array.min() <= array.max() < bound:
            raise InputError(
                f"{name} {at} holds {array.max()}, but the classes are 0 to {bound - 1}: check"
                " `classes` and `step`."
            )
