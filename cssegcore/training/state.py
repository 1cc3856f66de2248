"""State of a training besides the network, with which a killed training resumes."""

import dataclasses
import time
from collections.abc import Mapping
from typing import Any

from cssegcore.models.checkpoint import Statistics
from cssegcore.training.objective import Objective
from cssegcore.training.optimizer import Updater


class Stopwatch:
    """Elapsed seconds of a training, those before a resume included."""

    def __init__(self) -> None:
        self._start = time.monotonic()

    @property
    def seconds(self) -> float:
        """Seconds since the start, to the millisecond, and all added seconds."""
        return round(time.monotonic() - self._start, 3)

    def add(self, seconds: float) -> None:
        """Adds seconds that were measured before a resume."""
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
        """Returns the statistics for the next step, once training is over.

        Args:
            final: Whether to return the statistics with a final pass, or the others.
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
        """Loads a value of `state`."""
        self.updater.state = state["optimizer"]
        self.stopwatch.add(state["seconds"])
        for name, accumulator in self.objective.accumulators.items():
            accumulator.state = state["statistics"][name]
