"""Finished batches on disk, so that a synthesis that was killed continues after the last one."""

import contextlib
import itertools

import torch

from cssegcore.inversion.invert import InvertedBatch
from cssegcore.runtime.resume import ResumeFile


class FinishedBatches:
    """The finished batches of a synthesis, each in a file of its own; memory holds none."""

    def __init__(self, state: ResumeFile) -> None:
        """Counts the batches that a killed run left, up to the first one that is missing.

        Args:
            state: The synthesis's resume file, beside which the batches lie.
        """
        self._state = state
        there = (state.batch(at).path.exists() for at in itertools.count())
        self._count = sum(itertools.takewhile(bool, there))

    def get(self, at: int) -> InvertedBatch | None:
        """Reads batch number `at`, counted from 0; None if it is not finished.

        Raises:
            InputError: The file is damaged.
        """
        if at >= self._count:
            return None
        batch = self._state.batch(at).load(torch.device("cpu"))
        return None if batch is None else InvertedBatch(batch["images"].numpy(), batch["rows"])

    def add(self, at: int, batch: InvertedBatch) -> None:
        """Writes batch number `at`, the first one that is not finished."""
        # the next one's file would follow a batch that is gone, of which other images were kept
        with contextlib.suppress(OSError):
            self._state.batch(at + 1).path.unlink(missing_ok=True)
        self._state.batch(at).save({"images": torch.from_numpy(batch.images), "rows": batch.rows})
        self._count = at + 1
