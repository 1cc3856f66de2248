"""Metrics of learning step by step, and of forgetting.

Values are points (0 to 100), rounded to four decimals; None stands for "undefined".
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float64

from cssegcore.metrics.confusion import (
    Future,
    class_accuracy,
    fold_future,
    frequency_weighted_iou,
    iou,
    mean_defined,
    overall_accuracy,
)
from cssegcore.metrics.record import Evaluated

Points = float | None

FUTURE_RULES: dict[Future, str] = {
    "background": "classes not learned yet count as background",
    "ignore": "pixels of classes not learned yet do not count",
}

COUNTING = "void pixels do not count; classes without truth are left out of means"


def points(fraction: float) -> Points:
    """Returns a fraction in points, None for NaN."""
    return None if np.isnan(fraction) else round(100 * float(fraction), 4) + 0.0  # no -0.0


def protocol_line(future: Future) -> str:
    """Returns the rules of counting in one line."""
    return f"{FUTURE_RULES[future]}; {COUNTING}; background is a class except in *_nobg"


def step_metrics(record: Evaluated, *, future: Future) -> dict[str, Any]:
    """Returns the numbers of one step, for its `metrics.json`.

    Args:
        record: The record of the step's evaluation.
        future: Treatment of pixels of classes to come.
    """
    return {
        **step_scores(record, future),
        "step": record.step,
        "images": record.images,
        "protocol": protocol_line(future),
    }


def step_scores(record: Evaluated, future: Future) -> dict[str, Any]:
    """Returns mIoU of every group, their harmonic mean and the accuracies of one step."""
    matrix = fold_future(record.counts, future)
    values = iou(matrix)
    means = {name: mean_defined(values[members]) for name, members in record.groups().items()}
    return {
        "miou": {name: points(mean) for name, mean in means.items()},
        "harmonic": points(harmonic_mean(means["old_nobg"], means["new_nobg"])),
        "accuracy": points(overall_accuracy(matrix)),
        "mean_accuracy": points(mean_defined(class_accuracy(matrix))),
        "fw_iou": points(frequency_weighted_iou(matrix)),
    }


def harmonic_mean(a: float, b: float) -> float:
    """Returns 2ab / (a + b), 0 if both are 0, NaN if one is undefined."""
    return 2 * a * b / (a + b) if a + b != 0 else 0.0


def class_iou(records: Sequence[Evaluated], future: Future) -> Float64[np.ndarray, "s c"]:
    """Returns the IoU after each step of each class; NaN before it is seen or without truth."""
    table = np.full((len(records), len(records[-1].classes)), np.nan)
    for row, record in zip(table, records, strict=True):
        row[: record.seen] = iou(fold_future(record.counts, future))
    return table


def dead_classes(record: Evaluated, future: Future) -> list[str]:
    """Names the classes that a step has just learned and of which no pixel is right: IoU 0."""
    values = iou(fold_future(record.counts, future))
    return [record.classes[c] for c in record.groups()["new"] if values[c] == 0]


def forgetting(table: Float64[np.ndarray, "s c"]) -> Float64[np.ndarray, "s c"]:
    """Returns the IoU that each class lost against its best one of all earlier steps.

    Negative: better than ever before. NaN where there is no earlier IoU or none now.

    Args:
        table: Result of `class_iou`.
    """
    best = np.fmax.accumulate(table, axis=0)  # fmax skips NaN
    earlier = np.vstack([np.full_like(table[:1], np.nan), best[:-1]])
    return earlier - table


def backward_transfer(table: Float64[np.ndarray, "s c"]) -> Float64[np.ndarray, " c"]:
    """Returns per class the IoU after the last step minus that when it was first measured.

    NaN for a class measured at the last step only, or not at the last step.

    Args:
        table: Result of `class_iou`.
    """
    measured = ~np.isnan(table)
    first = measured.argmax(axis=0)
    change = table[-1] - table[first, np.arange(table.shape[1])]
    return np.where(first < len(table) - 1, change, np.nan)


def continual_scores(records: Sequence[Evaluated], future: Future) -> dict[str, Points]:
    """Returns the numbers that need all steps up to the last of `records`.

    `average*` is the mean over steps of mIoU of all classes; `forgetting*` and
    `backward_transfer*` are means over the classes that were measured before the last step.
    """
    table, groups = class_iou(records, future), [record.groups() for record in records]
    lost, gained = forgetting(table)[-1], backward_transfer(table)
    scores = {}
    for suffix in ("", "_nobg"):
        members = [group["all" + suffix] for group in groups]
        means = [mean_defined(row[seen]) for row, seen in zip(table, members, strict=True)]
        scores["average" + suffix] = points(mean_defined(np.array(means)))
        scores["forgetting" + suffix] = points(mean_defined(lost[members[-1]]))
        scores["backward_transfer" + suffix] = points(mean_defined(gained[members[-1]]))
    return scores
