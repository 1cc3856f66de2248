"""Contents of a run's page, section by section, as plain data for the templates."""

from collections.abc import Mapping, Sequence
from typing import Any

from cssegcore.core.config import flatten
from cssegcore.core.palette import palette
from cssegcore.core.types import IGNORE, Background
from cssegcore.evaluation.folder import Evaluation, SynthesisStats
from cssegcore.metrics.confusion import Future
from cssegcore.metrics.continual import FUTURE_RULES, class_iou, forgetting, points
from cssegcore.metrics.protocols import protocols
from cssegcore.report.confusions import confused_pairs, confusion_shares

MEANS = (
    ("all", "All classes", "mean IoU of all classes after the last step"),
    ("old", "Old", "classes of all steps before the last"),
    ("new", "New", "classes of the last step"),
    ("base", "Base", "classes of the first step"),
    ("added", "Added", "classes of all steps after the first"),
)
OVER_TIME = (
    ("average", "Average", "mean over the steps of the mean IoU of all classes so far"),
    ("forgetting", "Forgetting", "how far earlier classes end below their best; 0 is none"),
    ("backward_transfer", "Backward transfer", "change of earlier classes since they were new"),
)
SINGLE = (
    ("harmonic", "Harmonic mean", "of old and new without background: high only if both are"),
    ("accuracy", "Pixel accuracy", "share of the counted pixels that are right"),
)
"""Key in the summary, heading, and meaning of the number in one line."""

MOST_LISTED = 15
"""Rows of the tables of the most forgotten classes and of the most confused pairs."""


def page_contents(
    evaluation: Evaluation,
    summary: Mapping[str, Any],
    *,
    future: Future,
    background: Background,
    seconds: Mapping[str, float],
) -> dict[str, Any]:
    """Returns the contents of the page's sections, by the names that templates use.

    Args:
        evaluation: Evaluations of all steps.
        summary: Result of `tables.run_summary`.
        future: Treatment of pixels of classes to come.
        background: Meaning of the dataset's label 0.
        seconds: Duration of the training of each step, by its name.
    """
    classes = _classes(evaluation, future)
    return {
        "tiles": _tiles(summary),
        "records": evaluation.records,
        "groups": [group for group, *_ in MEANS],
        "rules": _rules(future),
        "spans": _spans(evaluation),
        "papers": _papers(summary["protocols"], background=background),
        "classes": classes,
        "worst_first": sorted(classes, key=_last_iou),
        "forgotten": _forgotten(classes),
        "confused": _confused(evaluation, classes, future),
        "further": _further(evaluation),
        "costs": _costs(evaluation, seconds),
        "examples": evaluation.examples,
        "pseudo_labels": _pseudo_labels(evaluation),
        "generated": [_generated(step) for step in evaluation.generated],
        "void": _colour(IGNORE),
    }


def _tiles(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Returns heading, meaning, value and value without background (or None) of each tile."""
    miou = summary["miou"]
    both = [(*tile, miou[tile[0]], miou[f"{tile[0]}_nobg"]) for tile in MEANS]
    both += [(*tile, summary[tile[0]], summary[f"{tile[0]}_nobg"]) for tile in OVER_TIME]
    both += [(*tile, summary[tile[0]], None) for tile in SINGLE]
    names = ("key", "heading", "meaning", "value", "nobg")
    return [dict(zip(names, tile, strict=True)) for tile in both]


def _rules(future: Future) -> list[dict[str, str]]:
    """Returns heading and column names in `steps` of the two rules, each with its background."""
    prefix = {rule: "" if rule == future else f"future_{rule}_" for rule in FUTURE_RULES}
    return [
        {"heading": "classes to come as background", "prefix": prefix["background"], "suffix": ""},
        {
            "heading": "classes to come left out, no background",
            "prefix": prefix["ignore"],
            "suffix": "_nobg",
        },
    ]


def _spans(evaluation: Evaluation) -> list[str]:
    """Returns the outputs of each step, background apart, as `1–15`."""
    last = evaluation.records[-1]
    learned = last.learned[1 : last.seen]
    firsts = [learned.index(step) + 1 for step in sorted(set(learned))]
    ends = [first - 1 for first in firsts[1:]] + [len(learned)]
    return [str(a) if a == b else f"{a}–{b}" for a, b in zip(firsts, ends, strict=True)]


def _papers(
    rows: Mapping[str, Mapping[str, Any]], *, background: Background
) -> list[dict[str, Any]]:
    """Returns one row per named protocol: the paper, its rules, the summary's numbers."""
    named = protocols(background)
    return [{"paper": named[n].paper, "counts": named[n].line(), **row} for n, row in rows.items()]


def _classes(evaluation: Evaluation, future: Future) -> list[dict[str, Any]]:
    """Returns one row per class: name, colour, step of arrival, IoU per step, forgetting."""
    records = evaluation.records
    table = class_iou(records, future)
    lost = forgetting(table)
    return [
        {
            "name": name,
            "colour": _colour(c),
            "learned": records[-1].learned[c],
            "iou": [points(value) for value in table[:, c]],
            "seen": [c < record.seen for record in records],
            "forgetting": points(lost[-1, c]),
        }
        for c, name in enumerate(records[-1].classes)
    ]


def _last_iou(row: Mapping[str, Any]) -> tuple[bool, float]:
    """Returns a key that sorts the worst class first, and classes without truth last."""
    last = row["iou"][-1]
    return last is None, last or 0.0


def _forgotten(classes: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Returns the rows of the most forgotten classes, with the best IoU that they had."""
    lost = [row for row in classes if (row["forgetting"] or 0) > 0]
    lost.sort(key=lambda row: -row["forgetting"])
    return [{**row, "best": row["iou"][-1] + row["forgetting"]} for row in lost[:MOST_LISTED]]


def _confused(
    evaluation: Evaluation, classes: Sequence[Mapping[str, Any]], future: Future
) -> list[dict[str, Any]]:
    """Returns the rows of the most confused pairs of classes after the last step."""
    pairs = confused_pairs(confusion_shares(evaluation.records[-1], future))[:MOST_LISTED]
    return [
        {"truth": classes[p.truth], "predicted": classes[p.predicted], "share": p.share}
        for p in pairs
    ]


def _pseudo_labels(evaluation: Evaluation) -> list[dict[str, Any]]:
    """Returns one row per step and class of possible pseudo-labels, shares in percent."""
    colours = {name: _colour(c) for c, name in enumerate(evaluation.records[-1].classes)}
    return [
        {
            "step": step.step,
            "name": row["class"],
            "colour": colours[row["class"]],
            "threshold": row["threshold"],
            "predicted": 100 * row["predicted"] / max(1, step.background),
            "accepted": 100 * row["accepted"] / max(1, row["predicted"]),
        }
        for step in evaluation.pseudo_labels
        for row in step.classes
    ]


def _further(evaluation: Evaluation) -> list[dict[str, Any]]:
    """Returns name, columns and one row of values per step of each of the further metrics."""
    found = []
    for name in dict.fromkeys(name for step in evaluation.further for name in step):
        steps = [flatten({name: step[name]}) if name in step else {} for step in evaluation.further]
        columns = list(dict.fromkeys(column for step in steps for column in step))
        rows = [[step.get(column) for column in columns] for step in steps]
        heads = [column.removeprefix(f"{name}.") for column in columns]
        found.append({"name": name, "columns": heads, "rows": rows})
    return found


def _costs(evaluation: Evaluation, seconds: Mapping[str, float]) -> list[dict[str, Any]]:
    """Returns one row per step: its costs and seconds, None where unknown; no rows if all are."""
    if not any(evaluation.costs) and not seconds:
        return []
    return [
        {
            "step": record.step,
            "weights": costs.get("trainable_weights"),
            "kept": costs.get("kept_bytes", {}),
            "seconds": seconds.get(record.step),
        }
        for record, costs in zip(evaluation.records, evaluation.costs, strict=True)
    ]


def _generated(step: SynthesisStats) -> dict[str, Any]:
    """Returns the step, the sheet, the number of kept images, and agreements in percent."""
    numbers = step.statistics
    return {
        "step": step.step,
        "model": numbers["step"],
        "sheet": step.sheet,
        "kept": sum(row["kept"] for row in numbers["classes"]),
        "wanted": sum(row["wanted"] for row in numbers["classes"]),
        "agreement": {
            who: {
                key: None if row[key] is None else points(row[key])
                for key in ("target_pixels", "miou")
            }
            for who, row in numbers["agreement"].items()
        },
        "distance": numbers["distance"],
    }


def _colour(label: int) -> str:
    return "#" + palette()[label].tobytes().hex()
