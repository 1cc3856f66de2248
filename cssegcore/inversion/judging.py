"""What networks see in made images: labels, agreement with what was asked for, statistics."""

from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from cssegcore.core.types import BACKGROUND, IGNORE
from cssegcore.data.crop_and_resize import normalise
from cssegcore.inversion.feature_statistics import record_feature_statistics
from cssegcore.inversion.invert import factors
from cssegcore.metrics.confusion import confusion_matrix, iou, mean_defined
from cssegcore.models.segmenter import Segmenter

Labels = UInt8[np.ndarray, "n s s"]


def seen(
    segmenter: Segmenter, images: UInt8[np.ndarray, "n s s 3"]
) -> tuple[Labels, UInt8[np.ndarray, "n s s"]]:
    """Returns the class of each pixel and its probability (255 standing for 1).

    Averaged over the images as stored and mirrored: what holds for one of them only is noise.
    """
    device = next(segmenter.parameters()).device
    photographs = normalise(torch.from_numpy(images).to(device), segmenter.normalization)
    with torch.inference_mode():
        plain = segmenter(photographs).logits.softmax(1)
        mirrored = segmenter(photographs.flip(-1)).logits.softmax(1).flip(-1)
        confidence, classes = ((plain + mirrored) / 2).max(1)
    return classes.byte().cpu().numpy(), (confidence * 255).round().byte().cpu().numpy()


def classes_seen(
    segmenter: Segmenter, images: UInt8[np.ndarray, "n s s 3"], batch_size: int
) -> Labels:
    """Returns the class of each pixel of any number of images, `batch_size` of them at a time."""
    starts = range(0, len(images), batch_size)
    return np.concatenate([seen(segmenter, images[at : at + batch_size])[0] for at in starts])


def believed(
    classes: Labels, confidence: UInt8[np.ndarray, "n s s"], layouts: Labels | None, least: float
) -> Labels:
    """Returns labels to train on: 255 where the network is not sure, or sees what nobody asked for.

    What a layout asks for is background, too.
    """
    doubtful = confidence < round(255 * least)
    if layouts is not None:
        for at, layout in enumerate(layouts):
            doubtful[at] |= ~np.isin(classes[at], [BACKGROUND, *np.unique(layout)])
    return np.where(doubtful, IGNORE, classes).astype(np.uint8)


def overlap(
    target: Bool[np.ndarray, "n s s"], found: Bool[np.ndarray, "n s s"]
) -> Float[np.ndarray, " n"]:
    """Returns the intersection over union of each pair of masks; 0 where both are empty."""
    both, either = (target & found).sum((1, 2)), (target | found).sum((1, 2))
    return both / np.maximum(either, 1)


def agreement(asked: Labels, classes: Labels, outputs: int) -> dict[str, Any]:
    """Compares what was asked for (255: nothing) with what a network sees.

    Returns:
        target_pixels: Share of the pixels of a class, not of the background, that it sees as asked;
            None if there is none.
        miou: Mean intersection over union, background included; None if nothing was asked for.
        by_class: That share for each class, background included; None if nobody asked for it.
    """
    matrix = confusion_matrix(asked, classes, outputs)
    hits, wanted = np.diagonal(matrix), matrix.sum(1)
    shares = [h / n if n else None for h, n in zip(hits.tolist(), wanted.tolist(), strict=True)]
    total = int(wanted[1:].sum())
    return {
        "target_pixels": float(hits[1:].sum() / total) if total else None,
        "miou": mean_defined(iou(matrix)) if wanted.any() else None,
        "by_class": shares,
    }


def distance(segmenter: Segmenter, images: Float[Tensor, "b 3 h w"]) -> float:
    """Returns how far a batch's statistics are from the running ones, summed over layers."""
    with (
        torch.inference_mode(),
        record_feature_statistics(segmenter, factors(segmenter, 1.0)) as features,
    ):
        segmenter(images)
        return float(features.total())
