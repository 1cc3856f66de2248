"""Callbacks of a training, and the row that each epoch gives."""

import dataclasses
from collections.abc import Callable, Iterable

from cssegcore.data.batches import Batch

Row = dict[str, float]
"""One epoch: `epoch` (from 1), `lr` at its end, `loss` and each term, as means over iterations."""

Progress = Callable[[Iterable[Batch], int], Iterable[Batch]]


@dataclasses.dataclass(frozen=True)
class Hooks:
    """Callbacks.

    Attributes:
        epoch: Called with every finished epoch's row, also with rows from before a resume.
        progress: Wraps the iterable of batches of an epoch (second argument: their number).
    """

    epoch: Callable[[Row], None]
    progress: Progress
