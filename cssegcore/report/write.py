"""A run's report, written to a folder."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np

from cssegcore.core.files import write_csv, write_json, write_text
from cssegcore.core.types import VAL, Background
from cssegcore.evaluation.folder import Evaluation, read_evaluation
from cssegcore.metrics.confusion import Future
from cssegcore.metrics.continual import class_iou, step_scores
from cssegcore.report import figures
from cssegcore.report.confusions import confused_most, confusion_shares
from cssegcore.report.page import render_page
from cssegcore.report.tables import class_rows, headline, run_summary, step_rows
from cssegcore.report.theme import MOST_DRAWN

MOST_CONFUSED = 30  # classes in the picture of a matrix that is too large to be read
EPOCH_COLUMNS = ("running_epoch", "step", "epoch", "lr", "loss")  # also if nothing was trained


def write_report(
    evaluation: Path,
    out: Path,
    *,
    title: str,
    protocol: Mapping[str, str],
    parameters: Mapping[str, object] = MappingProxyType({}),
    changed: Mapping[str, str] = MappingProxyType({}),
    provenance: Mapping[str, str] = MappingProxyType({}),
    future: Future = "background",
    background: Background = "annotated",
    seconds: Mapping[str, float] = MappingProxyType({}),
) -> dict[str, object]:
    """Writes tables, figures and `report.html` to `out` and returns the summary.

    The same evaluation gives the same tables and figures, byte by byte; the page also shows the
    other arguments.

    Args:
        evaluation: The folder with one subfolder per evaluated step.
        out: Folder of the report; created if it does not exist.
        title: Heading of the page.
        protocol: Description of the run (method, scenario, setting, seed, …) beside the numbers.
        parameters: Parameters of the run, nested or flat.
        changed: Parameters that differ from the default, by name; only the page has them.
        provenance: Date, place and software of the run, by name; only the page has it.
        future: Treatment of pixels of classes to come in the headline numbers.
        background: Meaning of the dataset's label 0; some papers do not test void.
        seconds: Duration of the training of each step, by its name; only the page has it.

    Raises:
        InputError: The evaluation is missing or not of one run, or `out` cannot be written.
    """
    run = read_evaluation(evaluation)
    summary = run_summary(run, future, protocol, background=background)
    steps = step_rows(run, future)
    write_json(out / "summary.json", summary)
    write_json(out / "headline.json", headline(summary))
    write_csv(out / "steps.csv", steps, numbers="")
    write_csv(out / "classes.csv", class_rows(run.records, future), numbers="")
    write_csv(out / "epochs.csv", run.epochs, EPOCH_COLUMNS)
    pictures = _figures(run, future)
    for name, svg in pictures.items():
        write_text(out / f"{name}.svg", svg)
    page = render_page(
        run,
        summary,
        steps,
        pictures,
        title=title,
        protocol=protocol,
        parameters=parameters,
        changed=changed,
        provenance=provenance,
        future=future,
        background=background,
        seconds=seconds,
    )
    write_text(out / "report.html", page)
    return summary


def _figures(run: Evaluation, future: Future) -> dict[str, str]:
    """Returns the SVGs by name."""
    records, last = run.records, run.records[-1]
    names = [record.step for record in records]
    scores = [step_scores(record, future)["miou"] for record in records]
    lines = {group: [miou[group] for miou in scores] for group in ("all", "old", "new")}
    shares, seen = confusion_shares(last, future), last.classes[: last.seen]
    if len(seen) > MOST_DRAWN:
        shown = confused_most(shares, MOST_CONFUSED) or list(range(MOST_CONFUSED))
        shares, seen = shares[np.ix_(shown, shown)], [seen[c] for c in shown]
    table = 100 * class_iou(records, future)
    watched = any(row.get(f"{VAL}miou") for row in run.epochs)
    more = {"validation": figures.drawn(figures.validation, run.epochs)} if watched else {}
    return more | {
        "heatmap": figures.drawn(figures.heatmap, table, names, last.classes),
        "curves": figures.drawn(figures.curves, lines, names),
        "confusion": figures.drawn(figures.confusion, shares, seen),
        "losses": figures.drawn(figures.losses, run.epochs)
        if run.epochs
        else figures.drawn(figures.note, "no step was trained"),
    }
