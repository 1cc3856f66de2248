"""The run as one self-contained HTML page: one file, which loads nothing from elsewhere.

Templates have a section each. The script sorts tables and moves through the photographs' steps; a
browser that runs none shows all the same.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cssegcore.core.config import flatten
from cssegcore.core.types import Background
from cssegcore.evaluation.folder import Evaluation
from cssegcore.metrics.confusion import Future
from cssegcore.metrics.continual import COUNTING, FUTURE_RULES, Points
from cssegcore.report.contents import page_contents
from cssegcore.report.data_urls import data_url, reduced_data_url
from cssegcore.report.theme import COLOURS, MOST_DRAWN, STRONGEST

TEMPLATES = Path(__file__).parent / "templates"
SECTIONS = (
    *("header", "headline", "curves", "heatmap", "weakest", "classes", "steps", "further"),
    *("papers", "pseudo_labels", "costs", "generated", "photographs", "confusion", "parameters"),
)
"""The page from top to bottom, by the names of the templates; one with nothing to show is empty."""


def render_page(
    evaluation: Evaluation,
    summary: Mapping[str, Any],
    steps: Sequence[Mapping[str, object]],
    pictures: Mapping[str, str],
    *,
    title: str,
    protocol: Mapping[str, str],
    parameters: Mapping[str, object],
    changed: Mapping[str, str],
    provenance: Mapping[str, str],
    future: Future,
    background: Background,
    seconds: Mapping[str, float],
) -> str:
    """Returns the page.

    Args:
        evaluation: Evaluations of all steps.
        summary: Result of `tables.run_summary`.
        steps: Result of `tables.step_rows`.
        pictures: SVGs by name.
        title: Heading and window title.
        protocol: Description of the run beside the numbers.
        parameters: Parameters of the run, nested or flat.
        changed: Parameters that differ from the default, by name.
        provenance: Date, place and software of the run, by name.
        future: Treatment of pixels of classes to come.
        background: Meaning of the dataset's label 0.
        seconds: Duration of the training of each step, by its name.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {
        "points": _points,
        "signed": _signed,
        "inlined": _inlined,
        "file": data_url,
        "reduced": reduced_data_url,
        "bytes": _bytes,
    }
    contents = page_contents(
        evaluation, summary, future=future, background=background, seconds=seconds
    )
    return environment.get_template("page.html.j2").render(
        **contents,
        sections=SECTIONS,
        title=title,
        protocol=protocol,
        counting=f"{FUTURE_RULES[future]}; {COUNTING}; background is a class like any other",
        parameters=flatten(parameters),
        changed=changed,
        provenance=provenance,
        steps=steps,
        pictures=pictures,
        most_drawn=MOST_DRAWN,
        colours=COLOURS,
        strongest=STRONGEST,
    )


def _points(value: Points) -> str:
    return "–" if value is None else f"{value:.1f}"


def _bytes(count: int | None) -> str:
    if count is None:
        return "–"
    powers = {"GiB": 2**30, "MiB": 2**20, "KiB": 2**10, "B": 1}
    unit, power = next((u, p) for u, p in powers.items() if count >= p or p == 1)
    return f"{count / power:.4g} {unit}"


def _signed(value: Points) -> str:
    return "–" if value is None else f"{value:+.1f}".replace("-", "−")


def _inlined(svg: str) -> str:
    """Returns an SVG for a page: without namespaces, which HTML's parser knows."""
    import markupsafe

    head, rest = svg.split(">", 1)
    return markupsafe.Markup(re.sub(r' xmlns(:\w+)?="[^"]*"', "", head) + ">" + rest)
