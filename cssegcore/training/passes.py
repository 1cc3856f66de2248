"""Passes over a step's images that statistics ask for before and after the training."""

import contextlib
import dataclasses
from collections.abc import Callable, Generator, Iterator

from cssegcore.core.types import Progress
from cssegcore.data.batch import Batch
from cssegcore.method.statistics import LabelledOutputs
from cssegcore.models.inference import infer
from cssegcore.models.segmenter import Segmenter
from cssegcore.training.objective import Objective


@dataclasses.dataclass(frozen=True)
class StatisticPasses:
    """The passes of one training. No gradient is computed, and one micro-batch is held at a time.

    Attributes:
        objective: The networks, the statistics and their accumulators.
        batches: Function that yields this process's batches of a pass. Its argument is a key of the
            pass, so that each pass has views of its own.
        count: Number of batches of a pass.
        pieces: Number of micro-batches of a batch.
        progress: Wraps the iterable of batches.
    """

    objective: Objective
    batches: Callable[[int], Generator[Batch]]
    count: int
    pieces: int
    progress: Progress

    def prepare(self, key: int) -> None:
        """Shows the old model's outputs to the statistics with `needs_old_pass`, if there is one.

        Args:
            key: Argument of `batches`.
        """
        old = self.objective.old
        for name, part in self.objective.method.statistics.items():
            if part.needs_old_pass and old is not None:
                self.objective.accumulators[name].prepare(self._outputs(old, key))

    def conclude(self, key: int) -> None:
        """Shows the trained network's outputs to the statistics with `needs_final_pass`.

        The network runs in evaluation mode and is in training mode afterwards.

        Args:
            key: Argument of `batches`.
        """
        network = self.objective.segmenter
        for name, part in self.objective.method.statistics.items():
            if part.needs_final_pass:
                network.eval()
                self.objective.accumulators[name].conclude(self._outputs(network, key))
                network.train()

    def _outputs(self, network: Segmenter, key: int) -> Iterator[LabelledOutputs]:
        with contextlib.closing(self.batches(key)) as batches:
            for batch in self.progress(batches, self.count):
                for piece in batch.pieces(self.pieces):
                    with self.objective.autocast(piece.images.device):
                        outputs = infer(network, piece.images)
                    yield outputs, piece.annotated
