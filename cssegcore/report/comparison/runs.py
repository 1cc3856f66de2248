"""A finished run in a comparison, and the benchmark whose runs may stand in one column."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from cssegcore.core.config import flatten


@dataclasses.dataclass(frozen=True, order=True)
class Benchmark:
    """Runs of one benchmark may be compared.

    Attributes:
        scenario: Name of the scenario, e.g. `voc/15-1`.
        setting: The rule that gives steps their images.
        protocol: Rules of the test, in words; also the choice of a model by validation.
        view: `whole` photographs or a `crop` of them.
        steps: Number of classes of each step, such as `4+2+2`; "" where it is not known.
        contents: Digest of the rest that decides who learns what: names, lists and so on.
    """

    scenario: str
    setting: str
    protocol: str = ""
    view: str = "whole"
    steps: str = ""
    contents: str = ""

    @property
    def title(self) -> str:
        """One line that names it."""
        return " · ".join(filter(None, (self.scenario, self.setting, self.protocol)))


def told_apart(benchmarks: Iterable[Benchmark]) -> dict[Benchmark, Benchmark]:
    """Returns each benchmark as it is shown: steps and contents are told where two differ in them.

    One of which they are not known is taken for the one that is otherwise the same.
    """
    alike: dict[Benchmark, set[Benchmark]] = {}
    for one in benchmarks:
        alike.setdefault(dataclasses.replace(one, steps="", contents=""), set()).add(one)
    shown = {}
    for bare, several in alike.items():
        known = [one for one in several if one.steps]
        for one in several:
            more = []
            if one.steps and len({other.steps for other in known}) > 1:
                more.append(f"steps of {one.steps} classes")
            if one.steps and len([other for other in known if other.steps == one.steps]) > 1:
                more.append(f"classes or lists #{one.contents[:4]}")
            protocol = ", ".join(filter(None, [bare.protocol, *more]))
            shown[one] = dataclasses.replace(bare, protocol=protocol)
    return shown


@dataclasses.dataclass(frozen=True)
class FinishedRun:
    """One run: its place in a table, and the numbers of its report.

    Attributes:
        source: Place where it was found, for messages.
        method: Name of the recipe.
        label: The method with its changes, e.g. `mib+deepinversion`.
        benchmark: Benchmark on which it may be compared.
        seed: Seed of the run.
        order: The order of its classes; `native` is the dataset's own.
        is_bound: Whether a step sees all images so far, as no continual method may.
        summary: The content of `summary.json`.
        steps: The rows of `steps.csv`; a cell without a value is None.
        classes: The rows of `classes.csv`.
        seconds: Duration of its trainings; None where that is not known.
        changed: Parameters that differ from the default, by key.
        variant: Digest of the parameters that its seeds and orders share; "" where it is not known.
    """

    source: str
    method: str
    label: str
    benchmark: Benchmark
    seed: int
    order: str = "native"
    is_bound: bool = False
    summary: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    steps: Sequence[Mapping[str, float | str | None]] = ()
    classes: Sequence[Mapping[str, float | str | None]] = ()
    seconds: float | None = None
    changed: Mapping[str, str] = dataclasses.field(default_factory=dict)
    variant: str = ""

    def score(self, key: str) -> float | None:
        """Returns a number of the run in points; None where it is undefined or unknown.

        Args:
            key: A key of `summary.json`, nested ones with dots (`protocols.plop.all`); that of a
                group alone is its mIoU (`added_nobg`); led by `first.`, of the first step
                (`first.base_nobg`).
        """
        if key.startswith("first."):
            group = key.removeprefix("first.")
            value = self.steps[0].get(f"miou_{group}") if self.steps else None
        else:
            flat = flatten(self.summary)
            value = flat.get(f"miou.{key}", flat.get(key))
        return float(value) if isinstance(value, int | float) else None
