"""Finished batches on disk, so that a synthesis that was killed continues after the last one."""

from typing import Any

import torch

from cssegcore.inversion.invert import InvertedBatch
from cssegcore.runtime.resume import ResumeFile


class FinishedBatches:
    """The batches of a resume file, from a run that was killed and from this run."""

    def __init__(self, file: ResumeFile) -> None:
        """Reads the file, if there is one.

        Raises:
            InputError: The file is damaged.
        """
        self._file = file
        state = file.load(torch.device("cpu")) or {"batches": []}
        self._batches: list[dict[str, Any]] = state["batches"]

    def get(self, at: int) -> InvertedBatch | None:
        """Returns batch number `at`, counted from 0; None if it is not finished."""
        if at >= len(self._batches):
            return None
        return InvertedBatch(self._batches[at]["images"].numpy(), self._batches[at]["rows"])

    def add(self, batch: InvertedBatch) -> None:
        """Appends a batch and saves the file."""
        images = torch.from_numpy(batch.images)
        self._batches.append({"images": images, "rows": batch.rows})
        self._file.save({"batches": self._batches})
