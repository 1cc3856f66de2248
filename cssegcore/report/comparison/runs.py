"""A finished run in a comparison, and the benchmark whose runs may stand in one column."""

import dataclasses
from collections.abc import Mapping, Sequence
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
    """

    scenario: str
    setting: str
    protocol: str = ""
    view: str = "whole"

    @property
    def title(self) -> str:
        """One line that names it."""
        return " · ".join(filter(None, (self.scenario, self.setting, self.protocol)))


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
