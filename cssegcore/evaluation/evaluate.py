"""The confusion matrix of a model on a list of images, and what it predicts."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from numpy.typing import NDArray
from torch import Tensor

from cssegcore.core.types import IGNORE
from cssegcore.data.batches import test_batches
from cssegcore.data.image_store import ImageStore
from cssegcore.models.segmenter import Segmenter
from cssegcore.runtime.distributed import all_gather, all_reduce_sum, world


def count(
    truth: Int[Tensor, "b h w"], predicted: Int[Tensor, "b h w"], rows: int, columns: int
) -> Int[Tensor, "r c"]:
    """Counts pixels by true class (row) and predicted class (column), void left out."""
    kept = truth != IGNORE
    cells = truth[kept] * columns + predicted[kept]
    return torch.bincount(cells, minlength=rows * columns).reshape(rows, columns)


@torch.inference_mode()
def confusion(
    segmenter: Segmenter,
    images: ImageStore,
    rows: int,
    batch_size: int,
    device: torch.device,
    progress: Callable[[Iterable[Any], int], Iterable[Any]],
    keep: set[str],
) -> tuple[NDArray[np.int64], dict[str, NDArray[np.uint8]]]:
    """Predicts whole photographs at their own size and counts; several processes share them.

    Args:
        segmenter: The model.
        images: Test images; labels are positions in the scenario's classes, 255 void.
        rows: Number of the scenario's classes, background and later ones included.
        batch_size: Photographs at a time; only those of one size share a batch.
        device: Where it runs.
        progress: Wraps the iterable of batches (second argument: number of photographs).
        keep: Names whose predictions are returned.

    Returns:
        The matrix, int64 (rows, classes of the model), and the kept predictions, uint8 (h, w); of
        all processes, in each.
    """
    segmenter.eval()
    columns = segmenter.classes
    matrix = torch.zeros(rows, columns, dtype=torch.int64, device=device)
    kept: dict[str, NDArray[np.uint8]] = {}
    batches = test_batches(images, batch_size, device, segmenter.normalization, world())
    for names, batch in progress(batches, len(images)):
        predicted = segmenter.classify(segmenter(batch.images).logits)
        matrix += count(batch.labels, predicted, rows, columns)
        for at, name in enumerate(names):
            if name in keep:
                kept[name] = predicted[at].byte().cpu().numpy()
    everyone = {name: label for kept in all_gather(kept) for name, label in kept.items()}
    return all_reduce_sum(matrix).cpu().numpy(), everyone
