"""Quality of generated images: labels, agreement with their targets, distance of statistics."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Int64, UInt8
from torch import Tensor

from cssegcore.core.types import BACKGROUND, IGNORE
from cssegcore.data.crop_and_resize import normalise
from cssegcore.inversion.feature_statistics import record_feature_statistics
from cssegcore.inversion.invert import layer_factors
from cssegcore.metrics.confusion import iou, mean_defined
from cssegcore.metrics.counting import confusion_matrix
from cssegcore.models.segmenter import Segmenter

ClassMaps = UInt8[np.ndarray, "n s s"]
"""A network output for each pixel; 255 for none."""


def predict_mirrored(
    segmenter: Segmenter, images: UInt8[np.ndarray, "n s s 3"]
) -> tuple[ClassMaps, UInt8[np.ndarray, "n s s"]]:
    """Predicts the class of each pixel and its probability (255 is probability 1).

    Probabilities are averaged over an image and its mirror image: a class that the network sees in
    one of them alone is noise.
    """
    device = next(segmenter.parameters()).device
    photographs = normalise(torch.from_numpy(images).to(device), segmenter.normalization)
    with torch.inference_mode():
        plain = segmenter(photographs).logits.softmax(1)
        mirrored = segmenter(photographs.flip(-1)).logits.softmax(1).flip(-1)
        confidence, classes = ((plain + mirrored) / 2).max(1)
    return classes.byte().cpu().numpy(), (confidence * 255).round().byte().cpu().numpy()


def reliable_labels(
    classes: ClassMaps,
    confidence: UInt8[np.ndarray, "n s s"],
    label_maps: ClassMaps | None,
    least: float,
) -> ClassMaps:
    """Returns training labels: the predicted classes, or 255 where they are not reliable.

    A pixel is not reliable if its probability is below `least`, or if its class is neither
    background nor in the image's label map.
    """
    doubtful = confidence < round(255 * least)
    if label_maps is not None:
        for at, label_map in enumerate(label_maps):
            doubtful[at] |= ~np.isin(classes[at], [BACKGROUND, *np.unique(label_map)])
    return np.where(doubtful, IGNORE, classes).astype(np.uint8)


def primary_scores(
    primaries: Int[np.ndarray, " n"],
    classes: ClassMaps,
    labels: ClassMaps,
    label_maps: ClassMaps | None,
) -> Float[np.ndarray, " n"]:
    """Scores from 0 to 1 how well each image shows its primary class.

    The score is the intersection over union of label map and prediction for this class; without
    label maps, the share of pixels that are labelled with it.
    """
    wanted = primaries[:, None, None]
    if label_maps is None:
        return (labels == wanted).mean((1, 2))
    return mask_iou(label_maps == wanted, classes == wanted)


def mask_iou(
    target: Bool[np.ndarray, "n s s"], found: Bool[np.ndarray, "n s s"]
) -> Float[np.ndarray, " n"]:
    """Returns the intersection over union of each pair of masks; 0 where both are empty."""
    both, either = (target & found).sum((1, 2)), (target | found).sum((1, 2))
    return both / np.maximum(either, 1)


@dataclasses.dataclass(frozen=True)
class LabelledImages:
    """Some generated images.

    Attributes:
        images: RGB values from 0 to 255.
        labels: Their training labels.
        asked: The class asked for at each pixel; 255 for none.
    """

    images: UInt8[np.ndarray, "n s s 3"]
    labels: ClassMaps
    asked: ClassMaps


def assess(
    batches: Iterable[LabelledImages], networks: Mapping[str, Segmenter], outputs: int
) -> dict[str, Any]:
    """Compares images with what was asked for, a batch at a time.

    Args:
        batches: All images; memory holds one batch at a time.
        networks: Networks of the same classes, by name.
        outputs: Number of their classes.

    Returns:
        agreement: Agreement of each network's predictions; see `agreement`.
        labelled: Share of pixels that have a label.
    """
    counts = {name: np.zeros((outputs, outputs), np.int64) for name in networks}
    labelled: list[float] = []
    for batch in batches:
        labelled += [float((one != IGNORE).mean()) for one in batch.labels]
        for name, network in networks.items():
            seen, _ = predict_mirrored(network, batch.images)
            pairs = torch.from_numpy(batch.asked), torch.from_numpy(seen)
            counts[name] += confusion_matrix(*pairs, outputs, outputs).numpy()
    return {
        "agreement": {name: agreement(count) for name, count in counts.items()},
        "labelled": float(np.mean(labelled)),
    }


def agreement(matrix: Int64[np.ndarray, "c c"]) -> dict[str, Any]:
    """Returns the numbers of a network's agreement with label maps.

    Args:
        matrix: Pixels by the class asked for (row) and the predicted one (column).

    Returns:
        target_pixels: Share of the pixels of a class other than background whose prediction is the
            asked class; None if there is no such pixel.
        miou: Mean intersection over union, background included; None if no pixel has a class.
        by_class: Share of agreeing pixels of each class, background included; None for a class that
            no pixel asks for.
    """
    hits, wanted = np.diagonal(matrix), matrix.sum(1)
    shares = [h / n if n else None for h, n in zip(hits.tolist(), wanted.tolist(), strict=True)]
    total = int(wanted[1:].sum())
    return {
        "target_pixels": float(hits[1:].sum() / total) if total else None,
        "miou": mean_defined(iou(matrix)) if wanted.any() else None,
        "by_class": shares,
    }


def feature_distance(segmenter: Segmenter, images: Float[Tensor, "b 3 h w"]) -> float:
    """Returns the distance of a batch's feature statistics from the running ones, summed."""
    factors = layer_factors(segmenter, 1.0)
    with torch.inference_mode(), record_feature_statistics(segmenter, factors) as features:
        segmenter(images)
        return float(features.total())
