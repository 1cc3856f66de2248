"""The mIoU on validation images while a step trains, for curves or the choice of an epoch.

Nothing of a training depends on it: networks decide in evaluation mode, without gradients, and
nothing is drawn. Photographs are decoded anew each time, a few at a time, so none are held.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64

from cssegcore.core.errors import InputError
from cssegcore.core.types import BACKGROUND, VAL, Progress
from cssegcore.data.batches import evaluation_batches
from cssegcore.data.dataset import Dataset
from cssegcore.data.image_list import ImageList
from cssegcore.data.image_store import ImageStore
from cssegcore.metrics.confusion import mean_defined
from cssegcore.metrics.continual import points
from cssegcore.metrics.counting import confusion_matrix
from cssegcore.models.segmenter import Segmenter
from cssegcore.runtime.distributed import all_gather, all_reduce_sum, world
from cssegcore.runtime.resume import ResumeFile
from cssegcore.training.hooks import EpochRow

CHOICE = f"{VAL}miou"
"""The column that the best epoch is chosen by."""
_BATCHES_AT_ONCE = 4


@dataclasses.dataclass(frozen=True)
class Validation:
    """Measurements of a training's epochs on validation images.

    Each class is measured on the lists that annotate it, which are those of the step that learns
    it: elsewhere its pixels read as background. So every step's photographs may be watched with
    the labels that its training had. The background is in no mean.

    Attributes:
        dataset: The dataset of the images.
        lists: The validation lists of the steps so far; may be empty.
        times: Number of measured epochs of a training, evenly spread, the last one included.
        keeps_best: Whether the weights of the best measured epoch are the result.
        batch_size: Photographs at a time.
    """

    dataset: Dataset
    lists: Sequence[ImageList]
    times: int
    keeps_best: bool = False
    batch_size: int = 16

    @property
    def is_on(self) -> bool:
        """Whether there is anything to measure."""
        return self.times > 0 and any(image_list.images for image_list in self.lists)

    def is_due(self, epoch: int, epochs: int) -> bool:
        """Whether an epoch, counted from 1, is measured."""
        times = min(self.times, epochs)
        return self.is_on and epoch in {round(epochs * k / times) for k in range(1, times + 1)}

    def measure(
        self, segmenter: Segmenter, device: torch.device, progress: Progress
    ) -> dict[str, float]:
        """Returns `val_miou`, and that of `val_old` and `val_new` classes, in points.

        The network's modules are in the mode they were in before; several processes share the
        photographs. A mean over no class is left out.
        """
        classes = max((image_list.classes for image_list in self.lists), key=lambda c: len(c.names))
        both = np.zeros((2, segmenter.classes), np.int64)  # intersection and union of each class
        with segmenter.evaluating():
            for image_list in self.lists:
                matrix = self._count(segmenter, image_list, device, progress)
                for c in _annotated(image_list):
                    truth, said = matrix[c].sum(), matrix[:, c].sum()
                    if truth:
                        both[:, c] += matrix[c, c], truth + said - matrix[c, c]
        with np.errstate(invalid="ignore"):
            iou = both[0] / both[1]
        arrival = np.array(classes.step_of)
        new = arrival == arrival.max()
        groups = {"miou": np.full_like(new, True), "old": ~new, "new": new}
        means = {name: points(mean_defined(iou[of])) for name, of in groups.items()}
        return {f"{VAL}{name}": mean for name, mean in means.items() if mean is not None}

    def _count(
        self, segmenter: Segmenter, image_list: ImageList, device: torch.device, progress: Progress
    ) -> Int64[np.ndarray, "r k"]:
        rows, columns = len(image_list.row_names), segmenter.classes
        matrix = torch.zeros(max(rows, columns), columns, dtype=torch.int64, device=device)
        mine = image_list.images[world().rank :: world().size]
        size = self.batch_size * _BATCHES_AT_ONCE
        pieces = [mine[start : start + size] for start in range(0, len(mine), size)]
        for images in progress(pieces, len(pieces)):
            store = ImageStore(self.dataset, dataclasses.replace(image_list, images=images))
            for _, batch in evaluation_batches(
                store, self.batch_size, device, segmenter.normalization
            ):
                predicted = segmenter.classify(segmenter(batch.images).logits)
                matrix += confusion_matrix(batch.labels, predicted, *matrix.shape)
        return all_reduce_sum(matrix).cpu().numpy()


def best_epoch(rows: Sequence[EpochRow]) -> int | None:
    """Returns the number (from 1) of the best measured epoch, the earlier of equals; None of none.

    Args:
        rows: Rows of all epochs so far.
    """
    measured = [(row[CHOICE], -at) for at, row in enumerate(rows, 1) if CHOICE in row]
    return -max(measured)[1] if measured else None


@dataclasses.dataclass(frozen=True)
class BestEpoch:
    """The state after the best measured epoch, kept in a file so that it takes no memory.

    Attributes:
        file: The file.
        validation: Measurements; if the best epoch is not the result, nothing is kept.
    """

    file: ResumeFile
    validation: Validation | None

    def keep(self, rows: Sequence[EpochRow], state: Callable[[], dict[str, Any]]) -> None:
        """Keeps the state if the last epoch so far is the best one; the first process does.

        A training that goes on asks at once, as it may have been killed just before.
        """
        if self._is_kept and rows and best_epoch(rows) == len(rows) and world().is_main:
            self.file.save({**state(), "epoch": len(rows)})

    def load(self, rows: Sequence[EpochRow], device: torch.device) -> dict[str, Any] | None:
        """Returns the state after the best epoch; None if the last one is the result.

        Raises:
            InputError: It could not be written, or no epoch was measured, so that none is best.
        """
        if not self._is_kept:
            return None
        best = best_epoch(rows)
        if best is None:
            raise InputError(
                f"no epoch of this training has a {CHOICE} that the best one could be told by: no"
                " validation image shows a class. Add one, or set `validation.keep` to last."
            )
        if best == len(rows):
            return None
        all_gather(best)  # no process reads before the first one has written
        state = self.file.load(device)
        if state is None or state["epoch"] != best:
            raise InputError(
                f"the state of the best epoch, {best}, is not in {self.file.path}: its disk was"
                " full. Free some space, delete that file and the one without `.best`, and the"
                " step trains anew."
            )
        return state

    @property
    def _is_kept(self) -> bool:
        return self.validation is not None and self.validation.keeps_best


def _annotated(image_list: ImageList) -> list[int]:
    """Returns the outputs that a list annotates, without the background."""
    raw = enumerate(image_list.classes.raw)
    return [c for c, value in raw if c != BACKGROUND and value in image_list.visible]
