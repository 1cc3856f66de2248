"""Callbacks of a training, and the row that each epoch gives."""

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

from cssegcore.core.types import Progress

EpochRow = dict[str, float]
"""One epoch: `epoch` (from 1), `lr` at its end, `loss` and each term, as means over iterations."""


def _as_they_are(items: Iterable[Any], _: int) -> Iterable[Any]:
    return items


@dataclasses.dataclass(frozen=True)
class Hooks:
    """Callbacks.

    Attributes:
        epoch: Called with every finished epoch's row, also with rows from before a resume.
        progress: Wraps the iterable of batches of an epoch (second argument: their number).
        pass_progress: Wraps the batches of a pass before or after training: a pass for a statistic,
            or one that trains the new head alone.
    """

    epoch: Callable[[EpochRow], None]
    progress: Progress
    pass_progress: Progress = _as_they_are
