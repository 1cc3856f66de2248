"""The state of a training beside the network: what a killed training needs to go on."""

import dataclasses
import time
from collections.abc import Mapping
from typing import Any

from cssegcore.models.checkpoint import Statistics
from cssegcore.training.objective import Objective
from cssegcore.training.optimizer import Updater


class Stopwatch:
    """Seconds of a training by the clock; those up to the state that it goes on from count too."""

    def __init__(self) -> None:
        self._start = time.monotonic()

    @property
    def seconds(self) -> float:
        """Seconds since it was made, to the millisecond, and those that were added."""
        return round(time.monotonic() - self._start, 3)

    def add(self, seconds: float) -> None:
        """Adds what was measured before."""
        self._start -= seconds


@dataclasses.dataclass(frozen=True)
class TrainingState:
    """Everything that changes during training besides the network.

    Optimizer state, statistics (inside the objective) and elapsed time.
    """

    updater: Updater
    objective: Objective
    stopwatch: Stopwatch = dataclasses.field(default_factory=Stopwatch)

    def statistics(self, *, final: bool) -> Statistics:
        """Returns what the next step needs, once training is over.

        Args:
            final: Whether of the statistics with a final pass, or of those without.
        """
        parts = self.objective.method.statistics
        accumulators = self.objective.accumulators.items()
        return {n: a.result() for n, a in accumulators if parts[n].needs_final_pass == final}

    @property
    def state(self) -> dict[str, Any]:
        """Everything that changes during training; not copied."""
        statistics = {name: g.state for name, g in self.objective.accumulators.items()}
        seconds = self.stopwatch.seconds
        return {"optimizer": self.updater.state, "statistics": statistics, "seconds": seconds}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Loads what `state` returned."""
        self.updater.state = state["optimizer"]
        self.stopwatch.add(state["seconds"])
        for name, accumulator in self.objective.accumulators.items():
            accumulator.state = state["statistics"][name]
