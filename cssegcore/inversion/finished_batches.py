"""Finished batches on disk, so that a synthesis that was killed makes none of them again."""

from collections.abc import Sequence

import torch

from cssegcore.inversion.invert import InvertedBatch
from cssegcore.runtime.resume import ResumeFile


class FinishedBatches:
    """The finished batches of a synthesis, each in a file of its own; memory holds none.

    What a batch shows follows from the classes it was made for, so a file counts for them alone. If
    a batch is lost and made again as other images, those of the next round may be for others.
    """

    def __init__(self, state: ResumeFile) -> None:
        """Looks at no file yet.

        Args:
            state: The synthesis's resume file, beside which the batches lie.
        """
        self._state = state

    def get(self, at: int, primaries: Sequence[int]) -> InvertedBatch | None:
        """Reads batch number `at`, counted from 0; None if it was not finished for `primaries`.

        Raises:
            InputError: The file is damaged.
        """
        batch = self._state.batch(at).load(torch.device("cpu"))
        if batch is None or batch["primaries"] != list(primaries):
            return None
        return InvertedBatch(batch["images"].numpy(), batch["rows"])

    def add(self, at: int, primaries: Sequence[int], batch: InvertedBatch) -> None:
        """Writes batch number `at`, made for the classes `primaries`."""
        images = torch.from_numpy(batch.images)
        whole = {"images": images, "rows": batch.rows, "primaries": list(primaries)}
        self._state.batch(at).save(whole)
