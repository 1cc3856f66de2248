"""The confusion matrix of a model on a list of images, and its predictions."""

import numpy as np
import torch
from numpy.typing import NDArray

from cssegcore.core.types import Progress
from cssegcore.data.batches import evaluation_batches
from cssegcore.data.image_store import ImageStore
from cssegcore.evaluation.meters import Meters
from cssegcore.metrics.counting import confusion_matrix
from cssegcore.models.segmenter import Segmenter
from cssegcore.runtime.distributed import all_gather, all_reduce_sum, world


@torch.inference_mode()
def count_confusion(
    segmenter: Segmenter,
    images: ImageStore,
    rows: int,
    batch_size: int,
    device: torch.device,
    progress: Progress,
    keep: set[str],
    meters: Meters | None = None,
) -> tuple[NDArray[np.int64], dict[str, NDArray[np.uint8]]]:
    """Predicts whole photographs at their own size and counts; several processes share them.

    Args:
        segmenter: The model.
        images: Test images; labels are positions in the scenario's classes, 255 void.
        rows: Number of the scenario's classes, background and later ones included.
        batch_size: Photographs at a time; only those of one size share a batch.
        device: Device of the model.
        progress: Wraps the iterable of batches (second argument: number of photographs).
        keep: Names whose predictions are returned.
        meters: Metrics to be counted on the way.

    Returns:
        The matrix, int64 (rows, classes of the model), and the kept predictions, uint8 (h, w), of
        all processes; the same in each process.
    """
    segmenter.eval()
    columns = segmenter.classes
    matrix = torch.zeros(rows, columns, dtype=torch.int64, device=device)
    kept: dict[str, NDArray[np.uint8]] = {}
    batches = evaluation_batches(images, batch_size, device, segmenter.normalization, world())
    for names, batch in progress(batches, len(images)):
        logits = segmenter(batch.images).logits
        predicted = segmenter.classify(logits)
        matrix += confusion_matrix(batch.labels, predicted, rows, columns)
        if meters:
            meters.update(batch.labels, predicted, segmenter.decisive(logits))
        for at, name in enumerate(names):
            if name in keep:
                kept[name] = predicted[at].byte().cpu().numpy()
    if meters:
        meters.gather()
    everyone = {name: label for kept in all_gather(kept) for name, label in kept.items()}
    return all_reduce_sum(matrix).cpu().numpy(), everyone
