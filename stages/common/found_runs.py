"""Finished runs wherever they are kept: as DVC's experiments, and in MLflow."""

import csv
import dataclasses
import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from cssegcore.core.errors import InputError
from cssegcore.core.files import digest
from cssegcore.report.comparison.runs import Benchmark, FinishedRun

from .naming import name_run
from .variants import deciding, variant_of


@dataclasses.dataclass(frozen=True)
class FoundRun:
    """A finished run as a tool keeps it.

    Attributes:
        source: Where it was found, for messages.
        params: Its parameters by dotted key, as text.
        time: When it was finished, in seconds since 1970.
        read: Returns a file of its report by name; raises `FileNotFoundError`.
        noted: Its `label` and what it `changed`, as `check` notes them, if it did.
        seconds: How long its trainings took; None where that is not known.
    """

    source: str
    params: Mapping[str, str]
    time: float
    read: Callable[[str], bytes]
    noted: Mapping[str, Any] | None = None
    seconds: float | None = None

    @property
    def identity(self) -> tuple[tuple[str, str], ...]:
        """What two entries of one run share."""
        return tuple(sorted(deciding(self.params).items()))


def finished_runs(found: Iterable[FoundRun]) -> tuple[list[FinishedRun], list[str]]:
    """Returns each run once, and a line about every entry that was left out.

    Of entries that differ in no parameter that decides a number the newest counts: code or machine
    were others. Those with the same numbers are one run, and the others go without a word.
    """
    entries: dict[tuple[tuple[str, str], ...], list[FoundRun]] = {}
    for entry in found:
        entries.setdefault(entry.identity, []).append(entry)
    read, notes = [], []
    for same in entries.values():
        known = []
        for entry in same:
            try:
                known.append((entry, finished_run(entry)))
            except (FileNotFoundError, InputError) as error:
                notes.append(f"{entry.source} is left out: {error}")
        known.sort(key=lambda pair: -pair[0].time)
        for entry, run in known[1:]:
            if run.summary != known[0][1].summary:
                notes.append(
                    f"{entry.source} is left out: {known[0][0].source} has the same parameters and"
                    " is newer."
                )
        read += known[:1]
    return _ordered(read), notes


def _ordered(read: Iterable[tuple[FoundRun, FinishedRun]]) -> list[FinishedRun]:
    """Returns the runs; two orders of one name in a row of a table get a digest."""
    known: dict[tuple[object, ...], set[str]] = {}
    found = []
    for entry, run in read:
        row = (run.benchmark, run.label, run.variant, run.order)
        order = _digest(entry.params, ("scenario.classes.", "scenario.partition_groups"))
        known.setdefault(row, set()).add(order)
        found.append((row, order, run))
    return [
        dataclasses.replace(run, order=f"{run.order}#{order[:4]}") if len(known[row]) > 1 else run
        for row, order, run in found
    ]


def finished_run(entry: FoundRun) -> FinishedRun:
    """Reads a run's report.

    Raises:
        FileNotFoundError: The report is not there; the message says what to do.
        InputError: A file or a parameter is not what it must be.
    """
    params = entry.params
    try:
        summary = json.loads(entry.read("summary.json"))
        steps, classes = (_table(entry.read(name)) for name in ("steps.csv", "classes.csv"))
        told = entry.noted
        if told is None:  # by an earlier version
            name = name_run(params)
            told = {"label": name.label, "changed": name.differences}
        return FinishedRun(
            source=entry.source,
            method=params["method.name"],
            label=str(told["label"]),
            benchmark=benchmark_of(params),
            seed=int(params["seed"]),
            order=params.get("scenario.order", "native"),
            is_bound=params.get("method.images") == "seen",
            summary=summary,
            steps=steps,
            classes=classes,
            seconds=entry.seconds,
            changed=dict(told["changed"]),
            variant=variant_of(params),
        )
    except (ValueError, LookupError, TypeError) as error:
        raise InputError(f"it cannot be read ({type(error).__name__}: {error}).") from None


def benchmark_of(params: Mapping[str, str]) -> Benchmark:
    """Returns what a run may be compared on, from its parameters as text."""
    setting, rule = params["scenario.setting"], params.get("scenario.partition.rule", "mib")
    if setting == "partitioned" and rule != "mib":
        setting = f"{setting} ({rule}, seed {params['scenario.partition.seed']})"
    view = params.get("evaluation.view", "whole")
    protocol = [
        f"crops of {params['evaluation.size']}" if view == "crop" else "whole photographs",
        "classes to come ignored" * (params.get("evaluation.future") == "ignore"),
        "test images may be training images" * (params.get("evaluation.shared") == "allow"),
        "best epoch on validation images" * (params.get("validation.keep") == "best"),
    ]
    name, rules = params["scenario.name"], ", ".join(filter(None, protocol))
    return Benchmark(name, setting, rules, view, *_contents(params))


def _contents(params: Mapping[str, str]) -> tuple[str, str]:
    """Returns the number of classes of each step, and a digest of the rest: who learns what.

    An order of classes is no part of it, since orders stand in one row.
    """
    begin = "scenario.classes."
    steps = sorted((k for k in params if k.startswith(begin)), key=lambda k: (len(k), k))
    classes = [json.loads(params[key]) for key in steps]
    listed = ("scenario.lists",) * (params["scenario.setting"] == "listed")
    names = json.dumps(sorted(name for step in classes for name in step))
    rest = _digest(params, ("scenario.domains", "scenario.left_out", *listed))
    return "+".join(str(len(step)) for step in classes), digest(names.encode(), rest.encode())


def _digest(params: Mapping[str, str], begins: tuple[str, ...]) -> str:
    """Digests the parameters whose keys begin so; those without a value are as good as none."""
    said = {k: v for k, v in params.items() if k.startswith(begins) and v not in ("None", "{}")}
    return digest(json.dumps(said, sort_keys=True).encode())


def _table(content: bytes) -> Sequence[Mapping[str, float | str | None]]:
    rows = csv.DictReader(io.StringIO(content.decode()))
    return [{key: _value(cell) for key, cell in row.items()} for row in rows]


def _value(cell: str) -> float | str | None:
    try:
        return float(cell) if cell else None
    except ValueError:
        return cell
