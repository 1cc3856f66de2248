"""The figures of a run, as SVG in the page's colours.

Colours are the page's variables, and those of a light screen where there is no page around, as in
`dvc plots`. Letters stay letters, which the browser has for every script.
"""

import io
import itertools
import re
import unicodedata
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec
from xml.etree import ElementTree as ET

import numpy as np
from jaxtyping import Float64

from cssegcore.core.types import VAL
from cssegcore.report.theme import COLOURS, SERIES, STRONGEST, light

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

P = ParamSpec("P")

WIDTH = 10.5  # inches
SCALE = 100  # the page's pixels an inch: text is as large as the page's
FONT = "DejaVu Sans"  # matplotlib's own: measures the same on every machine
MOST_COLUMNS = 30  # of a heat map, before it goes on below
MOST_LETTERS = 24  # of a name in a figure

SVG = "http://www.w3.org/2000/svg"
VARIABLES = {pair[0]: f"var(--{name}, {pair[0]})" for name, pair in COLOURS.items()}


def drawn(draw: Callable[Concatenate["Figure", P], None], *args: P.args, **kwargs: P.kwargs) -> str:
    """Draws with `draw` on a new figure and returns the SVG; the same text for the same numbers.

    Figures are made without pyplot, whose state outlives the call.
    """
    return _for_a_page(_saved("svg", {"Date": None}, draw, *args, **kwargs))


def printed(
    draw: Callable[Concatenate["Figure", P], None], *args: P.args, **kwargs: P.kwargs
) -> bytes:
    """Draws with `draw` on a new figure and returns a PDF, for a paper."""
    return _saved("pdf", {"CreationDate": None}, draw, *args, **kwargs)


def _saved(
    kind: str,
    metadata: dict[str, None],
    draw: Callable[Concatenate["Figure", P], None],
    *args: P.args,
    **kwargs: P.kwargs,
) -> bytes:
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_style(draw.__name__)), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # the browser has it
        figure = Figure(layout="constrained", facecolor=light("surface"))
        draw(figure, *args, **kwargs)
        data = io.BytesIO()
        figure.savefig(data, format=kind, metadata=metadata)
    return data.getvalue()


def shortened(name: str) -> str:
    """Returns a name for a figure: one line without control characters, cut if it is long."""
    shown = "".join("�" if _is_no_text(c) else c for c in name)
    width = 0
    for at, letter in enumerate(shown):
        width += 2 if unicodedata.east_asian_width(letter) in "WF" else 1
        if width > MOST_LETTERS:
            return shown[: at - 1] + "…"
    return shown


def _is_no_text(letter: str) -> bool:
    """Whether XML refuses a character: controls, surrogates, and code points of no character."""
    return unicodedata.category(letter) in ("Cc", "Cs") or letter in "\ufffe\uffff"


def heatmap(
    figure: "Figure",
    table: Float64[np.ndarray, "s c"],
    steps: Sequence[str],
    classes: Sequence[str],
) -> None:
    """IoU (points) after each step (rows) of each class (columns); blank where there is none."""
    blocks = np.array_split(np.arange(len(classes)), -(-len(classes) // MOST_COLUMNS))
    names = [shortened(name) for name in classes]
    longest = max(map(len, names))
    slanted = len(blocks[0]) > 12 or len(blocks[0]) * longest > 100
    below = 0.9 + (0.04 * max(0, longest - 10) if slanted else 0)
    figure.set_size_inches(WIDTH, len(blocks) * (0.4 * len(steps) + below))
    for axes, block in zip(_stack(figure, len(blocks)), blocks, strict=True):
        _cells(axes, table[:, block], size=9 if len(block) <= 14 else 7)
        axes.set_xticks(range(len(block)), [names[int(c)] for c in block])
        axes.set_yticks(range(len(steps)), [shortened(step) for step in steps])
        if slanted:
            axes.tick_params(axis="x", rotation=40)
            for label in axes.get_xticklabels():
                label.set(ha="right", rotation_mode="anchor")


def confusion(figure: "Figure", shares: Float64[np.ndarray, "c c"], classes: Sequence[str]) -> None:
    """The predictions (columns) for the pixels of each true class (rows), in percent."""
    size = len(classes)
    side = min(max(3.6, 0.4 * size), 14)
    figure.set_size_inches(side + 1.4, side + 1.0)
    axes = figure.add_subplot()
    shown = np.where(shares >= 0.5, shares, np.nan)  # a field of zeros hides what matters
    _cells(axes, shown, size=8 if size <= 14 else 7, numbers=size <= 30)
    names = [shortened(name) for name in classes]
    axes.set_xticks(range(size), names, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(size), names)
    axes.set(xlabel="predicted", ylabel="truth", aspect="equal")


def curves(
    figure: "Figure",
    lines: dict[str, list[float | None]],
    steps: Sequence[str],
) -> None:
    """Named lines of points over the steps; None is a gap."""
    figure.set_size_inches(WIDTH / 2, 3.2)
    axes = figure.add_subplot()
    axes.grid(axis="y")
    for (name, values), colour in zip(lines.items(), SERIES, strict=False):
        known = [(step, value) for step, value in enumerate(values) if value is not None]
        if known:
            axes.plot(*zip(*known, strict=True), "o-", color=light(colour), label=name, ms=4, lw=2)
    axes.set_xticks(
        range(len(steps)), [shortened(step) for step in steps], rotation=0 if len(steps) < 8 else 90
    )
    axes.set(ylabel="mIoU (points)", ylim=(0, None), xlim=(-0.25, len(steps) - 0.75))
    add_legend(axes)


def losses(figure: "Figure", epochs: Sequence[dict[str, str]]) -> None:
    """The loss and its terms over the running epoch; a rule where a step begins."""
    figure.set_size_inches(WIDTH / 2, 3.2)
    axes = figure.add_subplot()
    axes.grid(axis="y")
    names = list(dict.fromkeys(key for row in epochs for key in row))
    told = ("running_epoch", "step", "epoch", "lr", "loss")
    terms = [n for n in names if n not in told and not n.startswith(VAL)]
    for number, name in enumerate(["loss", *terms]):
        colour = light(SERIES[number % len(SERIES)])
        values = [float(row.get(name) or "nan") for row in epochs]
        x = [int(row["running_epoch"]) for row in epochs]
        axes.plot(x, values, color=colour, label=shortened(name), lw=2.2 if name == "loss" else 1.3)
    _rule_steps(axes, epochs)
    axes.set(xlabel="epoch, over all steps", ylabel="loss", ylim=(0, None), xlim=(0, None))
    add_legend(axes)


def validation(figure: "Figure", epochs: Sequence[dict[str, str]]) -> None:
    """The mIoU on validation images at the epochs where it was measured."""
    figure.set_size_inches(WIDTH / 2, 3.2)
    axes = figure.add_subplot()
    axes.grid(axis="y")
    for name, colour in zip(("miou", "old", "new"), SERIES, strict=False):
        known = [(int(r["running_epoch"]), float(v)) for r in epochs if (v := r.get(VAL + name))]
        if known:
            label = {"miou": "all"}.get(name, name)
            axes.plot(*zip(*known, strict=True), "o-", color=light(colour), label=label, ms=4)
    _rule_steps(axes, epochs)
    axes.set(xlabel="epoch, over all steps", ylabel="mIoU (points)", ylim=(0, None))
    axes.set_xlim(0, len(epochs) + 1)
    add_legend(axes)


def _rule_steps(axes: "Axes", epochs: Sequence[dict[str, str]]) -> None:
    """Draws a dotted rule where a step begins."""
    for before, row in itertools.pairwise(epochs):
        if before["step"] != row["step"]:
            axes.axvline(int(row["running_epoch"]) - 0.5, color=light("muted"), lw=0.8, ls=":")


def note(figure: "Figure", text: str) -> None:
    """A line of text where there is nothing to draw."""
    figure.set_size_inches(WIDTH / 2, 3.2)
    figure.text(0.5, 0.5, text, ha="center", va="center", color=light("muted"))


def _style(figure: str) -> dict[Any, Any]:
    """Returns matplotlib's settings; names of marks in the SVG depend on the figure's name."""
    return {
        "svg.fonttype": "none",
        "pdf.fonttype": 42,  # TrueType: letters can be searched, as journals ask for
        "svg.hashsalt": figure,
        "text.parse_math": False,  # a dollar sign is one
        "font.family": FONT,
        "font.size": 9,
        "text.color": light("ink"),
        "axes.edgecolor": light("line"),
        "axes.facecolor": light("surface"),
        "axes.labelcolor": light("muted"),
        "axes.spines.top": False,
        "axes.spines.right": False,
        "grid.color": light("line"),
        "xtick.color": light("line"),
        "ytick.color": light("line"),
        "xtick.labelcolor": light("muted"),
        "ytick.labelcolor": light("muted"),
    }


def _for_a_page(svg: bytes) -> str:
    """Returns matplotlib's SVG with variables for colours and font, ready to stand in a page."""
    ET.register_namespace("", SVG)
    ET.register_namespace("xlink", "http://www.w3.org/1999/xlink")
    root = ET.fromstring(svg)
    for tag in ("metadata", "defs"):  # who made it, and a style for every element of the page
        root.remove(root.findall(f"{{{SVG}}}{tag}")[0])
    root.set("style", "stroke-linejoin: round; stroke-linecap: butt")
    _, _, width, height = map(float, root.attrib["viewBox"].split())
    root.set("width", f"{width / 72 * SCALE:.0f}")
    root.set("height", f"{height / 72 * SCALE:.0f}")
    for element in root.iter():
        if element.tag == f"{{{SVG}}}g":
            element.attrib.pop("id", None)  # the same in every figure
        if style := element.get("style"):
            style = re.sub("#[0-9a-f]{6}", lambda found: VARIABLES.get(found[0], found[0]), style)
            element.set("style", style.replace(f"'{FONT}'", "var(--font, sans-serif)"))
    return ET.tostring(root, encoding="unicode") + "\n"


def _stack(figure: "Figure", count: int) -> list["Axes"]:
    return list(figure.subplots(count, 1, squeeze=False)[:, 0])


def _cells(
    axes: "Axes", values: Float64[np.ndarray, "r c"], *, size: int, numbers: bool = True
) -> None:
    """Draws 0–100 as shades of `good`, with the number in the cell; NaN stays empty."""
    from matplotlib.collections import PolyCollection
    from matplotlib.colors import to_rgba

    shown = [(row, column, value) for (row, column), value in np.ndenumerate(values) if value >= 0]
    axes.add_collection(
        PolyCollection(
            [
                [(c + x, r + y) for x, y in ((-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5))]
                for r, c, _ in shown
            ],
            facecolors=[to_rgba(light("good"), STRONGEST * v / 100) for *_, v in shown],
            edgecolors=light("surface"),
            linewidths=1.5,
        )
    )
    rows, columns = values.shape
    axes.set(xlim=(-0.5, columns - 0.5), ylim=(rows - 0.5, -0.5))
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    for row, column, value in shown if numbers else ():
        text = axes.text(column, row, f"{value:.0f}", size=size, ha="center", va="center")
        text.set_in_layout(False)  # inside its cell; asking each for its box is slow


def add_legend(axes: "Axes") -> None:
    """Names the lines above the axes."""
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=6, frameon=False, fontsize=8)
