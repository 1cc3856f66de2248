"""The state of a training beside the network: what a killed training needs to go on."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from cssegcore.models.checkpoint import Statistics
from cssegcore.training.objective import Objective
from cssegcore.training.optimizer import Updater


@dataclasses.dataclass(frozen=True)
class TrainingState:
    """The optimizer's state, and the objective, which holds the state of the statistics."""

    updater: Updater
    objective: Objective

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
        return {"optimizer": self.updater.state, "statistics": statistics}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Loads what `state` returned."""
        self.updater.state = state["optimizer"]
        for name, accumulator in self.objective.accumulators.items():
            accumulator.state = state["statistics"][name]
