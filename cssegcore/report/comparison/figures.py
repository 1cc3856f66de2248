"""The figures of a comparison; `report.figures` draws and styles them."""

import statistics
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from cssegcore.report.comparison.runs import FinishedRun
from cssegcore.report.comparison.table import ComparedBlock, ComparedRow, RunSpread
from cssegcore.report.figures import WIDTH, add_legend, shortened
from cssegcore.report.theme import SERIES, light

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MARKS = "osD^vPX*<>"
"""Marks of lines, as there are more methods than colours."""


def over_steps(figure: "Figure", block: ComparedBlock) -> None:
    """Mean mIoU of all classes after each step, a line a method; a band of one deviation."""
    axes = _axes(figure)
    steps = 0
    for number, row in enumerate(_ours(block)):
        curves = [[step.get("miou_all") for step in run.steps] for run in row.runs]
        by_step = list(zip(*curves, strict=False))
        spreads = [(k, _spread(values)) for k, values in enumerate(by_step)]
        points = [(k, spread) for k, spread in spreads if spread is not None]
        steps = max(steps, len(by_step))
        colour, mark = _style(number)
        x, means = [k for k, _ in points], [spread.mean for _, spread in points]
        axes.plot(x, means, color=colour, marker=mark, label=shortened(row.label), ms=4, lw=1.8)
        widths = [spread.over_seeds or 0 for _, spread in points]
        if any(widths):
            low, high = ([m + s * w for m, w in zip(means, widths, strict=True)] for s in (-1, 1))
            axes.fill_between(x, low, high, color=colour, alpha=0.15, lw=0)
    axes.set(xlabel="step", ylabel="mIoU of all classes (points)", ylim=(0, None))
    axes.set_xticks(range(steps))
    add_legend(axes)


def old_against_new(figure: "Figure", block: ComparedBlock) -> None:
    """Each run's mIoU of base and of added classes; a method's mean is a larger mark."""
    pairs = {
        row.label: [(run.score("base_nobg"), run.score("added_nobg")) for run in row.runs]
        for row in _ours(block)
    }
    axes = _axes(figure)
    _scatter(axes, pairs)
    axes.set(xlabel="base classes, mIoU (points)", ylabel="added classes, mIoU (points)")


def accuracy_against_cost(figure: "Figure", block: ComparedBlock) -> None:
    """Each run's mIoU of all classes over the hours of its trainings."""
    pairs = {
        row.label: [(run.seconds and run.seconds / 3600, run.score("all")) for run in row.runs]
        for row in _ours(block)
    }
    axes = _axes(figure)
    _scatter(axes, pairs)
    axes.set(xlabel="training, all steps (hours)", ylabel="mIoU of all classes (points)")
    axes.set_xlim(left=0)


def class_difference(figure: "Figure", first: FinishedRun, second: FinishedRun) -> None:
    """Difference of each class's IoU, second run minus first, after the last step, in points."""
    before, after = last_iou(first), last_iou(second)
    names = [name for name in after if name in before]
    values = [after[name] - before[name] for name in names]
    figure.set_size_inches(WIDTH / 2, 1.0 + 0.22 * len(names))
    axes = figure.add_subplot()
    colours = [light("good" if value >= 0 else "bad") for value in values]
    axes.barh(range(len(names)), values, color=colours, height=0.7)
    axes.set_yticks(range(len(names)), [shortened(name) for name in names])
    axes.invert_yaxis()
    axes.axvline(0, color=light("muted"), lw=0.8)
    axes.set(xlabel="IoU, difference (points)")
    axes.set_title(f"{second.label} less {first.label}", fontsize=9, color=light("ink"))


def last_iou(run: FinishedRun) -> dict[str, float]:
    """Returns the IoU of each class after the last step, in points; unknown ones are left out."""
    last = max((float(row["step"] or 0) for row in run.classes), default=0)
    rows = [row for row in run.classes if float(row["step"] or 0) == last]
    return {str(r["class"]): float(r["iou"]) for r in rows if r["iou"] is not None}


def _ours(block: ComparedBlock) -> list[ComparedRow]:
    return [row for row in block.rows if row.runs]


def _axes(figure: "Figure") -> "Axes":
    figure.set_size_inches(WIDTH * 0.6, 3.6)
    axes = figure.add_subplot()
    axes.grid()
    return axes


def _style(number: int) -> tuple[str, str]:
    return light(SERIES[number % len(SERIES)]), MARKS[(number // len(SERIES)) % len(MARKS)]


def _spread(values: Sequence[object]) -> RunSpread | None:
    """Returns the spread if all values are numbers: no mean over some of the runs."""
    known = [float(v) for v in values if isinstance(v, int | float)]
    return RunSpread.of([known]) if len(known) == len(values) else None


def _scatter(
    axes: "Axes", pairs: Mapping[str, Sequence[tuple[float | None, float | None]]]
) -> None:
    for number, (label, points) in enumerate(pairs.items()):
        known = [(x, y) for x, y in points if x is not None and y is not None]
        if known:
            colour, mark = _style(number)
            x, y = zip(*known, strict=True)
            axes.scatter(x, y, color=colour, marker=mark, s=10, alpha=0.5, lw=0)
            means = statistics.mean(x), statistics.mean(y)
            axes.scatter(*means, color=colour, marker=mark, s=45, label=shortened(label))
    add_legend(axes)
