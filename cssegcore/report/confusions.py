"""Pairs of classes that a network confuses."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float64

from cssegcore.metrics.confusion import Future, fold_future
from cssegcore.metrics.record import Evaluated


class ConfusedPair(NamedTuple):
    """Two classes by their outputs, and the share of the one predicted as the other, in percent."""

    truth: int
    predicted: int
    share: float


def confusion_shares(record: Evaluated, future: Future) -> Float64[np.ndarray, "c c"]:
    """Returns the predictions (columns) for the pixels of each true class (rows), in percent."""
    counts = fold_future(record.counts, future)
    return 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)


def confused_pairs(shares: Float64[np.ndarray, "c c"]) -> list[ConfusedPair]:
    """Returns the pairs that are confused at all, the largest share first.

    Args:
        shares: Result of `confusion_shares`.
    """
    wrong = shares.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")
    rows, columns = np.unravel_index(order[: np.count_nonzero(wrong)], wrong.shape)
    return [
        ConfusedPair(int(r), int(c), float(wrong[r, c])) for r, c in zip(rows, columns, strict=True)
    ]


def confused_most(shares: Float64[np.ndarray, "c c"], count: int) -> list[int]:
    """Returns the outputs of the classes of the most confused pairs, in the order of learning.

    Args:
        shares: Result of `confusion_shares`.
        count: Largest number of them.
    """
    found: dict[int, None] = {}
    for pair in confused_pairs(shares):
        both = {**found, pair.truth: None, pair.predicted: None}
        if len(both) > count:
            break
        found = both
    return sorted(found)
