"""The figures of a run, as PNG bytes in the colours of a theme."""

import io
import itertools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec

import numpy as np
from jaxtyping import Float64

from cssegcore.evaluation.folder import Panel
from cssegcore.report.theme import STRONGEST, Theme

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

P = ParamSpec("P")

WIDTH = 10.5  # inches
DPI = 160
MOST_COLUMNS = 30  # of a heat map, before it goes on below


def drawn(
    draw: Callable[Concatenate["Figure", Theme, P], None],
    theme: Theme,
    *args: P.args,
    **kwargs: P.kwargs,
) -> bytes:
    """Draws with `draw` on a new figure and returns the PNG; the same bytes for the same numbers.

    Figures are made without pyplot, whose state outlives the call.
    """
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_style(theme)):
        figure = Figure(layout="constrained", facecolor=theme.surface)
        draw(figure, theme, *args, **kwargs)
        data = io.BytesIO()
        figure.savefig(data, format="png", dpi=DPI, metadata={"Software": None})
    return data.getvalue()


def heatmap(
    figure: "Figure",
    theme: Theme,
    table: Float64[np.ndarray, "s c"],
    steps: Sequence[str],
    classes: Sequence[str],
) -> None:
    """IoU (points) after each step (rows) of each class (columns); blank where there is none."""
    blocks = np.array_split(np.arange(len(classes)), -(-len(classes) // MOST_COLUMNS))
    figure.set_size_inches(WIDTH, len(blocks) * (0.4 * len(steps) + 0.9))
    for axes, block in zip(_stack(figure, len(blocks)), blocks, strict=True):
        _cells(axes, theme, table[:, block], size=9 if len(block) <= 14 else 7)
        axes.set_xticks(range(len(block)), [classes[int(c)] for c in block])
        axes.set_yticks(range(len(steps)), list(steps))
        if len(block) > 12:
            axes.tick_params(axis="x", rotation=40)
            for label in axes.get_xticklabels():
                label.set(ha="right", rotation_mode="anchor")


def confusion(
    figure: "Figure", theme: Theme, shares: Float64[np.ndarray, "c c"], classes: Sequence[str]
) -> None:
    """Where the pixels (percent) of each true class (rows) went (columns)."""
    size = len(classes)
    side = min(max(3.6, 0.4 * size), 14)
    figure.set_size_inches(side + 1.4, side + 1.0)
    axes = figure.add_subplot()
    shown = np.where(shares >= 0.5, shares, np.nan)  # a field of zeros hides what matters
    _cells(axes, theme, shown, size=8 if size <= 14 else 7, numbers=size <= 30)
    if size <= 60:
        axes.set_xticks(range(size), classes, rotation=45, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(size), classes)
    axes.set(xlabel="predicted", ylabel="truth", aspect="equal")


def curves(
    figure: "Figure",
    theme: Theme,
    lines: dict[str, list[float | None]],
    steps: Sequence[str],
) -> None:
    """Named lines of points over the steps; None is a gap."""
    figure.set_size_inches(WIDTH / 2, 3.2)
    axes = figure.add_subplot()
    axes.grid(axis="y")
    for (name, values), colour in zip(lines.items(), theme.series, strict=False):
        known = [(step, value) for step, value in enumerate(values) if value is not None]
        if known:
            axes.plot(*zip(*known, strict=True), "o-", color=colour, label=name, ms=4, lw=2)
    axes.set_xticks(range(len(steps)), list(steps), rotation=0 if len(steps) < 8 else 90)
    axes.set(ylabel="mIoU (points)", ylim=(0, None), xlim=(-0.25, len(steps) - 0.75))
    _legend(axes)


def losses(figure: "Figure", theme: Theme, epochs: Sequence[dict[str, str]]) -> None:
    """The loss and its terms over the running epoch; a rule where a step begins."""
    figure.set_size_inches(WIDTH / 2, 3.2)
    axes = figure.add_subplot()
    axes.grid(axis="y")
    names = list(dict.fromkeys(key for row in epochs for key in row))
    terms = [n for n in names if n not in ("running_epoch", "step", "epoch", "lr", "loss")]
    for number, name in enumerate(["loss", *terms]):
        colour = theme.series[number % len(theme.series)]
        values = [float(row.get(name) or "nan") for row in epochs]
        x = [int(row["running_epoch"]) for row in epochs]
        axes.plot(x, values, color=colour, label=name, lw=2.2 if name == "loss" else 1.3)
    for before, row in itertools.pairwise(epochs):
        if before["step"] != row["step"]:
            axes.axvline(int(row["running_epoch"]) - 0.5, color=theme.muted, lw=0.8, ls=":")
    axes.set(xlabel="epoch, over all steps", ylabel="loss", ylim=(0, None), xlim=(0, None))
    _legend(axes)


def examples(
    figure: "Figure", theme: Theme, examples: Sequence[Panel], steps: Sequence[str]
) -> None:
    """Photograph, truth and the prediction after every step; one example a row."""
    from PIL import Image

    heads = ["photograph", "truth", *steps]
    figure.set_size_inches(1.5 * len(heads), 1.5 * len(examples) + 0.3)
    grid = figure.subplots(len(examples), len(heads), squeeze=False)
    for row, example in zip(grid, examples, strict=True):
        for axes, path in zip(
            row, [example.photo, example.truth, *example.predictions], strict=True
        ):
            axes.axis("off")
            if path is not None:
                with Image.open(path) as image:
                    axes.imshow(image.convert("RGB"), interpolation="nearest")
    for axes, head in zip(grid[0], heads, strict=True):
        axes.set_title(head, color=theme.muted, fontsize=9)


def note(figure: "Figure", theme: Theme, text: str) -> None:
    """A line of text where there is nothing to draw."""
    figure.set_size_inches(WIDTH / 2, 3.2)
    figure.text(0.5, 0.5, text, ha="center", va="center", color=theme.muted)


def _style(theme: Theme) -> dict[Any, Any]:
    """Returns matplotlib's settings."""
    return {
        "font.family": "DejaVu Sans",  # matplotlib's own: the same on every machine
        "font.size": 9,
        "text.color": theme.ink,
        "axes.edgecolor": theme.line,
        "axes.facecolor": theme.surface,
        "axes.labelcolor": theme.muted,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "grid.color": theme.line,
        "xtick.color": theme.line,
        "ytick.color": theme.line,
        "xtick.labelcolor": theme.muted,
        "ytick.labelcolor": theme.muted,
    }


def _stack(figure: "Figure", count: int) -> list["Axes"]:
    return list(figure.subplots(count, 1, squeeze=False)[:, 0])


def _cells(
    axes: "Axes",
    theme: Theme,
    values: Float64[np.ndarray, "r c"],
    *,
    size: int,
    numbers: bool = True,
) -> None:
    """Draws 0–100 as shades from surface to `good`, with the number in the cell."""
    from matplotlib.colors import LinearSegmentedColormap, to_rgb

    surface, good = np.array(to_rgb(theme.surface)), np.array(to_rgb(theme.good))
    full = surface + STRONGEST * (good - surface)
    shades = LinearSegmentedColormap.from_list("heat", [surface, full])
    axes.imshow(values, cmap=shades, vmin=0, vmax=100, aspect="auto")
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    axes.set_xticks(np.arange(0.5, values.shape[1] - 1), minor=True)
    axes.set_yticks(np.arange(0.5, values.shape[0] - 1), minor=True)
    axes.grid(visible=True, which="minor", axis="both", color=theme.surface, lw=1.5)
    axes.tick_params(which="minor", length=0)
    if numbers:
        for (row, column), value in np.ndenumerate(values):
            if not np.isnan(value):
                text = axes.text(column, row, f"{value:.0f}", size=size, ha="center", va="center")
                text.set_in_layout(False)  # inside its cell; asking each for its box is slow


def _legend(axes: "Axes") -> None:
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=6, frameon=False, fontsize=8)
