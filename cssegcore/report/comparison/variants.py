"""Runs that stand in one row: those of one name and of the same parameters, a seed once."""

from collections.abc import Iterable
from typing import NamedTuple

from cssegcore.report.comparison.runs import FinishedRun


class Variant(NamedTuple):
    """Runs of one row.

    Attributes:
        label: Their name; where others of other parameters have it too, with a digest of theirs.
        runs: One run of each order and seed.
        notes: Remarks on them, for the reader.
    """

    label: str
    runs: list[FinishedRun]
    notes: list[str]


def variants(runs: Iterable[FinishedRun]) -> list[Variant]:
    """Puts the runs of one benchmark into rows, by their labels."""
    named: dict[str, list[FinishedRun]] = {}
    for run in runs:
        named.setdefault(run.label, []).append(run)
    return [variant for label in sorted(named) for variant in _of_one_name(label, named[label])]


def _of_one_name(label: str, runs: list[FinishedRun]) -> list[Variant]:
    known = {run.variant for run in runs if run.variant}
    only = next(iter(known)) if len(known) == 1 else ""  # what is not known is taken for this
    found: dict[str, list[FinishedRun]] = {}
    for run in runs:
        found.setdefault(run.variant or only, []).append(run)
    long = next((n for n in range(4, 17) if len({v[:n] for v in found}) == len(found)), 16)
    several = len(found) > 1
    made = []
    for variant in sorted(found):
        name = f"{label} #{variant[:long]}" if several and variant else label
        made.append(Variant(name, *_once(name, found[variant])))
        if several:
            sources = ", ".join(run.source for run in made[-1].runs)
            made[-1].notes.append(f"{name}: of other parameters than its namesakes: {sources}")
    return made


def _once(label: str, runs: list[FinishedRun]) -> tuple[list[FinishedRun], list[str]]:
    """Returns one run of each order and seed, the last, and a note where numbers differ."""
    last = {(run.order, run.seed): run for run in runs}
    notes = [
        f"{label}: seed {run.seed} is there twice, with other numbers; {kept.source} counts, and"
        f" {run.source} does not"
        for run in runs
        if run.summary != (kept := last[run.order, run.seed]).summary
    ]
    return list(last.values()), notes
