"""Puts all finished runs into one table."""

import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cssegcore.core.config import did_you_mean
from cssegcore.core.errors import InputError

from .common.cli import run, say

if TYPE_CHECKING:
    from cssegcore.report.comparison.runs import FinishedRun
    from cssegcore.report.comparison.table import Comparison

    from .common.found_runs import FoundRun


class Source(StrEnum):
    """Where runs are looked for."""

    DVC = "dvc"
    MLFLOW = "mlflow"


class Format(StrEnum):
    """How a table is printed."""

    TEXT = "text"
    MARKDOWN = "md"
    LATEX = "tex"
    CSV = "csv"


def main(
    *,
    source: Annotated[
        list[Source] | None, typer.Option(help="Where to look; both without this option.")
    ] = None,
    method: Annotated[
        list[str] | None, typer.Option(help="Only this one: mib, or mib+deepinversion; repeatable.")
    ] = None,
    scenario: Annotated[
        list[str] | None, typer.Option(help="Only this one, e.g. voc/15-1; repeatable.")
    ] = None,
    counting: Annotated[
        str, typer.Option(help="own, or as a paper counts: mib, plop, ssul, sdr, dkd, mbs.")
    ] = "own",
    metric: Annotated[
        list[str] | None,
        typer.Option(help="A column: a key of summary.json, or of the counting; repeatable."),
    ] = None,
    published: Annotated[
        bool, typer.Option(help="Put published numbers of the same protocol beside ours.")
    ] = True,
    form: Annotated[Format, typer.Option("--format", help="What is printed.")] = Format.TEXT,
    out: Annotated[
        list[Path] | None, typer.Option(help="Also write it: .txt, .md, .tex or .csv; repeatable.")
    ] = None,
    figures: Annotated[
        Path | None, typer.Option(help="Folder for figures, as SVG and PDF.")
    ] = None,
    difference: Annotated[
        tuple[str, str] | None,
        typer.Option(help="With --figures: two runs, whose classes are compared."),
    ] = None,
) -> None:
    """Compare all finished runs: DVC's experiments, those of its queue included, and MLflow's.

    A row is a method with what was changed of it, as mean and deviation over seeds and over orders
    of classes; runs of different protocols stand in different tables.
    """
    from cssegcore.core.files import write_text
    from cssegcore.report.comparison.published import published_rows
    from cssegcore.report.comparison.table import compare_runs
    from cssegcore.report.comparison.writers import TABLE_WRITERS

    from .common.found_runs import finished_runs

    endings = _endings(out or [])
    if difference and not figures:
        raise InputError("--difference is drawn: name a folder for it with --figures.")
    runs, notes = finished_runs(_found(source or list(Source)))
    for note in notes:
        typer.echo(f"note: {note}", err=True)
    runs = _chosen(runs, method or [], scenario or [])
    rows = published_rows() if published else ()
    table = compare_runs(runs, counting=counting, columns=metric or (), published=rows)
    typer.echo(TABLE_WRITERS[form.value](table), nl=False)
    if published and counting == "own" and not metric and form is Format.TEXT:
        _tell_of_published(table)
    for path, ending in endings.items():
        write_text(path, TABLE_WRITERS[ending](table))
        say(f"written: {path}")
    if figures:
        _draw(figures, table, _pair(runs, difference))


def _found(sources: Sequence[Source]) -> "Iterator[FoundRun]":
    from .common.dvc_runs import dvc_runs
    from .common.mlflow_runs import mlflow_runs

    readers = {Source.DVC: dvc_runs, Source.MLFLOW: mlflow_runs}
    return itertools.chain.from_iterable(readers[source]() for source in dict.fromkeys(sources))


def _chosen(
    runs: "Iterable[FinishedRun]", methods: Sequence[str], scenarios: Sequence[str]
) -> "list[FinishedRun]":
    """Returns the runs that are asked for, in no order.

    Raises:
        InputError: There is none.
    """
    runs = list(runs)
    if not runs:
        raise InputError(
            "there is no finished run: `dvc repro`, `dvc exp run` or a queue's make one."
        )
    known = {name for run in runs for name in (run.method, run.label)}
    places = {run.benchmark.scenario for run in runs}
    for name, names in [(m, known) for m in methods] + [(s, places) for s in scenarios]:
        if name not in names:
            hint = did_you_mean(name, names)
            raise InputError(f"no finished run of {name!r}.{hint} There are {_listed(names)}.")
    return [
        run
        for run in runs
        if not methods or not {run.method, run.label}.isdisjoint(methods)
        if not scenarios or run.benchmark.scenario in scenarios
    ]


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))


def _endings(paths: Iterable[Path]) -> dict[Path, str]:
    """Returns each file's format.

    Raises:
        InputError: An ending names none.
    """
    known = {".txt": "text", ".md": "md", ".tex": "tex", ".csv": "csv"}
    for path in paths:
        if path.suffix not in known:
            raise InputError(f"--out {path}: give it one of the endings {', '.join(known)}.")
    return {path: known[path.suffix] for path in paths}


def _tell_of_published(table: "Comparison") -> None:
    """Says how published numbers come into the table, if there are some for these scenarios."""
    from cssegcore.report.comparison.published import published_rows

    places = {(b.benchmark.scenario, b.benchmark.setting) for b in table.blocks}
    rows = [row for row in published_rows() if (row.scenario, row.setting) in places]
    if not rows:
        return
    names = ", ".join(dict.fromkeys(row.counting for row in rows))
    crop = any(block.benchmark.view == "crop" for block in table.blocks)
    tested = "" if crop else ", and test as papers do (`-S evaluation.view=crop`)"
    typer.echo(f"\nPublished numbers stand beside ours with --counting {names}{tested}.")


def _pair(
    runs: "Sequence[FinishedRun]", names: tuple[str, str] | None
) -> "tuple[FinishedRun, FinishedRun] | None":
    """Returns the two runs that are named by experiment, or by method and seed (`mib:2`)."""
    if names is None:
        return None
    called: dict[str, FinishedRun] = {}
    for one in sorted(runs, key=lambda run: (run.benchmark, run.seed)):
        experiment = one.source.removeprefix("experiment ")
        for name in (experiment, one.label, f"{one.label}:{one.seed}"):
            called.setdefault(name, one)
    for name in names:
        if name not in called:
            raise InputError(f"--difference: no run {name!r}. There are {_listed(called)}.")
    return called[names[0]], called[names[1]]


def _draw(
    folder: Path, table: "Comparison", pair: "tuple[FinishedRun, FinishedRun] | None"
) -> None:
    from cssegcore.core.files import replacing, write_text
    from cssegcore.report import figures as drawing
    from cssegcore.report.comparison import figures

    drawings = (figures.over_steps, figures.old_against_new, figures.accuracy_against_cost)
    asked: list[tuple[str, Callable[..., None], tuple[object, ...]]] = [
        (f"{draw.__name__}-{_slug(block.benchmark.title)}", draw, (block,))
        for block in table.blocks
        for draw in drawings
    ]
    if pair:
        name = "-".join(_slug(f"{run.label} {run.seed}") for run in pair)
        asked.append((f"class_difference-{name}", figures.class_difference, pair))
    for name, draw, what in asked:
        write_text(folder / f"{name}.svg", drawing.drawn(draw, *what))
        with replacing(folder / f"{name}.pdf") as temporary:
            temporary.write_bytes(drawing.printed(draw, *what))
    say(f"figures: {len(asked)} in {folder}, as SVG and PDF")


def _slug(text: str) -> str:
    return re.sub(r"\W+", "-", text).strip("-")


if __name__ == "__main__":
    run(main)
