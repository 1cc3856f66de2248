"""Which classes a network takes for which."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float64

from cssegcore.metrics.confusion import Future, fold_future
from cssegcore.metrics.record import Evaluated


class ConfusedPair(NamedTuple):
    """Two classes by their outputs, and how much of the one is taken for the other, in percent."""

    truth: int
    predicted: int
    share: float


def confusion_shares(record: Evaluated, future: Future) -> Float64[np.ndarray, "c c"]:
    """Returns where the pixels (percent) of each true class (rows) went (columns)."""
    counts = fold_future(record.counts, future)
    return 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)


def confused_pairs(shares: Float64[np.ndarray, "c c"]) -> list[ConfusedPair]:
    """Returns the pairs that are confused at all, those with the largest share first.

    Args:
        shares: From `confusion_shares`.
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
        shares: From `confusion_shares`.
        count: The most of them.
    """
    found: dict[int, None] = {}
    for pair in confused_pairs(shares):
        both = {**found, pair.truth: None, pair.predicted: None}
        if len(both) > count:
            break
        found = both
    return sorted(found)
