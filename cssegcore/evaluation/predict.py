"""Photographs in, label images and overlays out."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from cssegcore.core.files import replacing
from cssegcore.core.palette import palette, save_labels
from cssegcore.data.crop_and_resize import normalise
from cssegcore.data.dataset import decode
from cssegcore.models.segmenter import Segmenter


@torch.inference_mode()
def label_photographs(
    segmenter: Segmenter,
    photographs: Sequence[Path],
    out: Path,
    opacity: float,
    device: torch.device,
    progress: Callable[[Iterable[Any], int], Iterable[Any]],
) -> NDArray[np.float64]:
    """Labels photographs of any size.

    Args:
        segmenter: The model.
        photographs: Files with different names.
        out: Where NAME.png (palette) and NAME.overlay.jpg go.
        opacity: Of the colours over the photograph; background stays clear.
        device: Where it runs.
        progress: Wraps the iterable of paths (second argument: how many).

    Returns:
        The share of all pixels that each class has.

    Raises:
        InputError: A photograph cannot be read, or a result not be written.
    """
    segmenter.eval()
    counts = np.zeros(segmenter.classes, np.int64)
    for path in progress(photographs, len(photographs)):
        photograph = np.asarray(decode(path, "photograph").convert("RGB"))
        pixels = torch.from_numpy(photograph.copy())[None].to(device)
        images = normalise(pixels, segmenter.normalization)
        labels = segmenter.classify(segmenter(images).logits)[0].byte().cpu().numpy()
        counts += np.bincount(labels.ravel(), minlength=len(counts))
        with replacing(out / f"{path.stem}.png") as temporary:
            save_labels(temporary, labels)
        with replacing(out / f"{path.stem}.overlay.jpg") as temporary:
            overlay(photograph, labels, opacity).save(temporary, "JPEG", quality=92)
    return counts / max(1, counts.sum())


def overlay(
    photograph: NDArray[np.uint8], labels: NDArray[np.uint8], opacity: float
) -> Image.Image:
    """Lays the palette's colours over a photograph (h, w, 3) where a class was found."""
    colours = palette()[labels].astype(np.float32)
    share = np.where(labels == 0, 0, opacity).astype(np.float32)[..., None]
    return Image.fromarray((photograph * (1 - share) + colours * share).round().astype(np.uint8))
