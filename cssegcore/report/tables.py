"""The numbers of a run as JSON and CSV, for DVC's metrics and plots."""

from collections.abc import Mapping, Sequence
from typing import Any

from cssegcore.core.config import flatten
from cssegcore.core.types import Background
from cssegcore.evaluation.folder import Evaluation
from cssegcore.metrics.confusion import Future
from cssegcore.metrics.continual import (
    Points,
    class_iou,
    continual_scores,
    forgetting,
    points,
    protocol_line,
    step_scores,
)
from cssegcore.metrics.protocols import protocols, table_row
from cssegcore.metrics.record import Evaluated

OTHER: dict[Future, Future] = {"background": "ignore", "ignore": "background"}


def run_summary(
    run: Evaluation,
    future: Future,
    protocol: Mapping[str, str],
    *,
    background: Background,
) -> dict[str, object]:
    """Returns the numbers of the whole run; `future_*` is the same under the other rule.

    After the last step no class is to come, so the rules differ only in numbers of earlier steps.
    `protocols` holds rows of papers' tables; DVC's metrics ignore their `groups`, a list.
    """
    named = protocols(background)
    said = [f"{key} {value}" for key, value in protocol.items()]
    records = run.records
    return {
        **step_scores(records[-1], future),
        **run.further[-1],
        **continual_scores(records, future),
        f"future_{OTHER[future]}": continual_scores(records, OTHER[future]),
        "protocols": {name: table_row(records, counted) for name, counted in named.items()},
        "steps": len(records),
        "images": records[-1].images,
        "protocol": "; ".join([*said, protocol_line(future)]),
    }


def headline(summary: Mapping[str, Any]) -> dict[str, Points]:
    """Returns the few numbers of a run for a list of many runs, in points."""
    groups = ("all", "base_nobg", "added_nobg")
    return {name: summary["miou"][name] for name in groups} | {
        name: summary[name] for name in ("average", "forgetting")
    }


def step_rows(run: Evaluation, future: Future) -> list[dict[str, object]]:
    """Returns one row per step; `future_*` columns hold the numbers under the other rule."""
    other = OTHER[future]
    return [
        {
            "step": record.index,
            **flatten(step_scores(record, future), "_"),
            **flatten({f"future_{other}": step_scores(record, other)}, "_"),
            "images": record.images,
            **flatten(further, "_"),
        }
        for record, further in zip(run.records, run.further, strict=True)
    ]


def class_rows(records: Sequence[Evaluated], future: Future) -> list[dict[str, object]]:
    """Returns one row per step and seen class."""
    table = class_iou(records, future)
    lost = forgetting(table)
    return [
        {
            "step": record.index,
            "class": record.classes[c],
            "learned": record.learned[c],
            "iou": points(table[row, c]),
            "forgetting": points(lost[row, c]),
        }
        for row, record in enumerate(records)
        for c in range(record.seen)
    ]
