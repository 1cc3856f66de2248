"""The table of a comparison: means and deviations over seeds and over orders of classes."""

import dataclasses
import itertools
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from cssegcore.core.errors import InputError
from cssegcore.report.comparison.published import PublishedRow
from cssegcore.report.comparison.runs import Benchmark, FinishedRun, told_apart
from cssegcore.report.comparison.variants import Variant, variants

K = TypeVar("K", bound=Any)

COUNTINGS: Mapping[str, Mapping[str, str]] = {
    "own": {
        "first.base_nobg": "base, step 0",
        "base_nobg": "base",
        "added_nobg": "added",
        "all": "all",
        "average": "average",
    },
    "mib": {"base": "base", "added": "added", "all": "all"},
    "plop": {"base": "base", "added": "added", "all": "all", "average": "average"},
    "ssul": {"base": "base", "added": "added", "all": "all"},
    "sdr": {"base": "base", "added": "added", "all": "all"},
    "dkd": {"base": "base", "added": "added", "all": "all", "harmonic": "harmonic"},
    "mbs": {"base": "base", "added": "added", "all": "all"},
}
"""Column headings by key: ours, `base` and `added` without background as MiB prints them and `all`
with it as PLOP does; and those of papers, each counted as its released program counts."""

LESS_IS_BETTER = ("forgetting",)
"""First words of the keys of metrics of which less is better."""


@dataclasses.dataclass(frozen=True)
class RunSpread:
    """A mean with its sample deviations; None where there are fewer than two to deviate.

    Attributes:
        mean: Mean over orders of the means over seeds, in points.
        over_seeds: Deviation over the seeds of an order, pooled over the orders.
        over_orders: Deviation of the orders' means.
    """

    mean: float
    over_seeds: float | None = None
    over_orders: float | None = None

    @classmethod
    def of(cls, by_order: Iterable[Sequence[float]]) -> "RunSpread":
        """Returns the spread of values, one sequence an order."""
        orders = list(by_order)
        means = [statistics.mean(values) for values in orders]
        several = [values for values in orders if len(values) > 1]
        freedom = sum(len(values) - 1 for values in several)
        squares = sum((len(v) - 1) * statistics.variance(v) for v in several)
        return cls(
            statistics.mean(means),
            (squares / freedom) ** 0.5 if freedom else None,
            statistics.stdev(means) if len(means) > 1 else None,
        )


@dataclasses.dataclass(frozen=True)
class ComparedRow:
    """A row of one benchmark.

    Attributes:
        label: The method with its changes, and a digest where another row has the same ones; in
            published rows, the paper's name for it.
        cells: Spread in each column; None where a run has no such number.
        seeds: Number of seeds of each order, fewest and most.
        orders: Names of the orders of classes.
        runs: The runs behind it; none of a published row.
        source: Paper and table of a published row; "" for ours.
        notes: Remarks on it, for the reader.
    """

    label: str
    cells: list[RunSpread | None]
    seeds: tuple[int, int] = (1, 1)
    orders: tuple[str, ...] = ("native",)
    runs: tuple[FinishedRun, ...] = ()
    source: str = ""
    notes: tuple[str, ...] = ()

    @property
    def is_bound(self) -> bool:
        """Whether no continual method may be measured with it."""
        return any(run.is_bound for run in self.runs)

    @property
    def count(self) -> str:
        """Number of runs behind the mean, in words."""
        if self.source:
            return "published"
        fewest, most = self.seeds
        seeds = f"{most}" if fewest == most else f"{fewest}–{most}"
        said = f"{seeds} seed{'s' * (seeds != '1')}"
        return said if len(self.orders) < 2 else f"{len(self.orders)} orders × {said}"


@dataclasses.dataclass(frozen=True)
class ComparedBlock:
    """The rows of one benchmark, published ones after ours."""

    benchmark: Benchmark
    rows: list[ComparedRow]


@dataclasses.dataclass(frozen=True)
class Comparison:
    """A table: blocks of rows, all with the same columns.

    Attributes:
        counting: A key of `COUNTINGS`.
        columns: Heading of each column, by its key.
        blocks: Block of each benchmark.
    """

    counting: str
    columns: Mapping[str, str]
    blocks: list[ComparedBlock]

    def best(self, block: ComparedBlock) -> list[set[int]]:
        """Returns per column the rows that are best as far as one decimal shows, bounds apart."""
        return [
            _best([None if row.is_bound else row.cells[at] for row in block.rows], key)
            for at, key in enumerate(self.columns)
        ]


def compare_runs(
    runs: Iterable[FinishedRun],
    *,
    counting: str = "own",
    columns: Sequence[str] = (),
    published: Sequence[PublishedRow] = (),
) -> Comparison:
    """Puts runs into a table.

    Args:
        runs: The runs; of two that differ in no parameter, order or seed the last counts.
        counting: Rules for classes and pixels: `own`, or the name of a paper.
        columns: Keys of the columns, see `FinishedRun.score`; by default all of the counting.
        published: Rows of papers; rows of the same protocol are put beside ours.

    Raises:
        InputError: The counting is unknown, or no run has a number of one of the `columns`.
    """
    runs = list(runs)
    if counting not in COUNTINGS:
        raise InputError(f"no counting {counting!r}: choose one of {', '.join(COUNTINGS)}.")
    heads = {key: key for key in columns} or COUNTINGS[counting]
    prefix = "" if counting == "own" else f"protocols.{counting}."
    paths = [f"{prefix}{key}" for key in heads]
    for path in paths if columns else ():
        if runs and all(run.score(path) is None for run in runs):
            raise InputError(f"no run has a number {path!r}: see the keys of summary.json.")
    shown = told_apart(run.benchmark for run in runs)
    blocks = []
    for benchmark, members in _grouped(runs, lambda run: shown[run.benchmark]):
        rows = [_row(variant, paths) for variant in variants(members)]
        rows.sort(key=lambda row: row.is_bound)
        rows += _published(benchmark, rows, counting, heads, published)
        blocks.append(ComparedBlock(benchmark, rows))
    return Comparison(counting, heads, blocks)


def _grouped(
    runs: Iterable[FinishedRun], key: Callable[[FinishedRun], K]
) -> list[tuple[K, list[FinishedRun]]]:
    ordered = sorted(runs, key=lambda run: (key(run), run.order, run.seed))
    return [(name, list(same)) for name, same in itertools.groupby(ordered, key)]


def _row(variant: Variant, paths: Sequence[str]) -> ComparedRow:
    orders = [list(same) for _, same in _grouped(variant.runs, lambda run: run.order)]
    counts = [len(same) for same in orders]
    return ComparedRow(
        variant.label,
        [_cell(orders, path) for path in paths],
        (min(counts), max(counts)),
        tuple(same[0].order for same in orders),
        tuple(variant.runs),
        notes=tuple(variant.notes),
    )


def _cell(orders: Sequence[Sequence[FinishedRun]], path: str) -> RunSpread | None:
    values = [[run.score(path) for run in same] for same in orders]
    known = [[value for value in same if value is not None] for same in values]
    return RunSpread.of(known) if known == values else None  # no mean over some of the runs


def _published(
    benchmark: Benchmark,
    rows: Sequence[ComparedRow],
    counting: str,
    heads: Mapping[str, str],
    published: Sequence[PublishedRow],
) -> list[ComparedRow]:
    ours = {run.method for row in rows for run in row.runs}
    orders = {row.orders for row in rows}
    place = (benchmark.scenario, benchmark.setting, benchmark.view, counting)
    return [
        ComparedRow(
            row.label,
            [_published_cell(row, key) for key in heads],
            orders=row.orders,
            source=row.source,
        )
        for row in published
        if (row.scenario, row.setting, row.view, row.counting) == place
        if row.orders in orders and not ours.isdisjoint(row.methods)
        if not row.numbers.keys().isdisjoint(heads)
    ]


def _published_cell(row: PublishedRow, key: str) -> RunSpread | None:
    mean = row.numbers.get(key)
    return None if mean is None else RunSpread(mean, row.deviations.get(key))


def _best(cells: Sequence[RunSpread | None], key: str) -> set[int]:
    shown = {at: round(cell.mean, 1) for at, cell in enumerate(cells) if cell is not None}
    if len(shown) < 2:
        return set()
    goal = (min if key.startswith(LESS_IS_BETTER) else max)(shown.values())
    return {at for at, value in shown.items() if value == goal}
