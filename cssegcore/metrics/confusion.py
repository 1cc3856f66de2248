"""Numbers from one confusion matrix: row = truth, column = prediction, entries = pixels.

All values are fractions (0 to 1); NaN stands for "undefined".
"""

from typing import Literal

import numpy as np
from jaxtyping import Float64, Int64, Integer

Future = Literal["background", "ignore"]
"""Treatment of a pixel in a test whose class has not been learned yet.

`background` as in PLOP's program: predicting background there is right. `ignore` as in MiB's: the
pixel does not count.
"""

_EPSILON = 1e-6
"""Added to denominators, in pixels, as the published programs do."""


def fold_future(matrix: Int64[np.ndarray, "c k"], future: Future) -> Int64[np.ndarray, "k k"]:
    """Makes a matrix with rows for classes to come (the last c - k ones) square."""
    seen = matrix.shape[1]
    folded = matrix[:seen].copy()
    if future == "background":
        folded[0] += matrix[seen:].sum(axis=0)
    return folded


def iou(matrix: Int64[np.ndarray, "c c"]) -> Float64[np.ndarray, " c"]:
    """Returns TP / (truth + predicted - TP) per class, NaN for a class without truth."""
    return ratio_of_overlap(np.diagonal(matrix), matrix.sum(axis=1), matrix.sum(axis=0))


def ratio_of_overlap(
    hits: Integer[np.ndarray, " c"],
    truth: Integer[np.ndarray, " c"],
    predicted: Integer[np.ndarray, " c"],
) -> Float64[np.ndarray, " c"]:
    """Returns intersection over union from pixels per class, NaN for a class without truth."""
    return np.where(truth > 0, hits / (truth + predicted - hits + _EPSILON), np.nan)


def class_accuracy(matrix: Int64[np.ndarray, "c c"]) -> Float64[np.ndarray, " c"]:
    """Returns TP / truth per class, NaN for a class without truth."""
    truth = matrix.sum(axis=1)
    return np.where(truth > 0, np.diagonal(matrix) / (truth + _EPSILON), np.nan)


def overall_accuracy(matrix: Int64[np.ndarray, "c c"]) -> float:
    """Returns the share of counted pixels that are right."""
    total = int(matrix.sum())
    return float(np.trace(matrix) / total) if total else float("nan")


def frequency_weighted_iou(matrix: Int64[np.ndarray, "c c"]) -> float:
    """Returns the mean of the classes' IoU, each weighted by its share of the true pixels."""
    total = int(matrix.sum())
    frequency = matrix.sum(axis=1) / max(total, 1)
    return float(np.nansum(frequency * iou(matrix))) if total else float("nan")


def mean_defined(values: Float64[np.ndarray, " n"]) -> float:
    """Returns the mean of the values that are defined, NaN if there is none."""
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if defined.size else float("nan")
