"""Callbacks of a training, and the row that each epoch gives."""

import dataclasses
from collections.abc import Callable

from cssegcore.core.types import Progress

EpochRow = dict[str, float]
"""One epoch: `epoch` (from 1), `lr` at its end, `loss` and each term, as means over iterations."""


@dataclasses.dataclass(frozen=True)
class Hooks:
    """Callbacks.

    Attributes:
        epoch: Called with every finished epoch's row, also with rows from before a resume.
        progress: Wraps the iterable of batches of an epoch (second argument: their number).
    """

    epoch: Callable[[EpochRow], None]
    progress: Progress
