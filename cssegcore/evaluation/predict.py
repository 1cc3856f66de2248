"""Photographs in, label images and overlays out."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from jaxtyping import Float64, UInt8
from PIL import Image

from cssegcore.core.errors import InputError
from cssegcore.core.files import digest, replacing
from cssegcore.core.jpeg import save_jpeg
from cssegcore.core.palette import MARK, palette, save_labels
from cssegcore.data import images
from cssegcore.data.crop_and_resize import normalise
from cssegcore.models.segmenter import Segmenter

FORMATS: Final = (*images.PHOTOGRAPH_FORMATS, "BMP", "WEBP", "TIFF")
"""Those that are opened."""


@dataclasses.dataclass(frozen=True)
class Labelled:
    """What became of photographs.

    Attributes:
        shares: The share of all pixels that each class has.
        before: How many a call before this one had labelled.
        failures: One line for each photograph that could not be labelled.
    """

    shares: Float64[np.ndarray, " k"]
    before: int
    failures: list[str]


def label_photographs(
    segmenter: Segmenter,
    photographs: Sequence[Path],
    out: Path,
    opacity: float,
    device: torch.device,
    progress: Callable[[Iterable[Any], int], Iterable[Any]],
    model: str = "",
) -> Labelled:
    """Labels photographs of any size, turned as viewers show them.

    All are checked first. One that cannot be read, or does not fit into memory, is left out; the
    others are labelled. A label image keeps a digest of what it was made of, so the same call again
    goes on with what is missing.

    Args:
        segmenter: The model.
        photographs: Files with different names.
        out: Where NAME.png (palette) and NAME.overlay.jpg go.
        opacity: Opacity of the colours over the photograph; background stays clear.
        device: Where it runs.
        progress: Wraps the iterable of paths (second argument: how many).
        model: What tells the model from others; a digest of it.

    Raises:
        InputError: A result cannot be written, or stands where somebody else's file is.
    """
    segmenter.eval()
    counts = np.zeros(segmenter.classes, np.int64)
    marks: dict[Path, str] = {}
    failures: list[str] = []
    for path in photographs:
        try:
            content = images.read(path, "photograph")
            mark = digest(content, model.encode(), str(opacity).encode())
            done = _done(out, path.stem, mark)
            if done is None:
                images.check_photograph(content, path, FORMATS, turn=True)
                marks[path] = mark
            else:
                counts += np.bincount(done.ravel(), minlength=len(counts))
        except InputError as error:
            failures.append(str(error))
    before = len(photographs) - len(marks) - len(failures)
    for path, mark in progress(marks.items(), len(marks)):
        try:
            photograph, labels = _label(segmenter, path, device)
        except InputError as error:
            failures.append(str(error))
            continue
        counts += np.bincount(labels.ravel(), minlength=len(counts))
        with replacing(out / f"{path.stem}.png", durable=False) as temporary:
            save_labels(temporary, labels, mark)
        with replacing(out / f"{path.stem}.overlay.jpg", durable=False) as temporary:
            save_jpeg(temporary, overlay(photograph, labels, opacity), 92)
    return Labelled(counts / max(1, counts.sum()), before, failures)


def check_room(out: Path, names: Iterable[str]) -> None:
    """Makes sure that no file stands where a result goes, unless it is a result itself.

    Raises:
        InputError: One does.
    """
    for name in names:
        label = out / f"{name}.png"
        for path in (label, out / f"{name}.overlay.jpg"):
            if path.exists() and not _mark(label):
                raise InputError(
                    f"{path} is there already: name an --out that is empty or not there."
                )


def _done(out: Path, name: str, mark: str) -> UInt8[np.ndarray, "h w"] | None:
    """Returns the labels that a call before made of the same photograph, or nothing.

    Raises:
        InputError: It made them of something else.
    """
    path = out / f"{name}.png"
    if not path.exists():
        return None
    if _mark(path) != mark:
        raise InputError(
            f"{path} was made of another photograph or model, or with another opacity: name an"
            " --out that is empty or not there."
        )
    if not (out / f"{name}.overlay.jpg").exists():
        return None
    return images.labels(images.read(path, "label image"), path)


def _mark(path: Path) -> str:
    """Returns what a label image says it was made of, "" if it is none of ours."""
    try:
        with Image.open(path, formats=images.LABELS) as image:
            return str(image.info.get(MARK, ""))
    except (OSError, SyntaxError, ValueError):
        return ""


@torch.inference_mode()
def _label(
    segmenter: Segmenter, path: Path, device: torch.device
) -> tuple[UInt8[np.ndarray, "h w 3"], UInt8[np.ndarray, "h w"]]:
    photograph = images.photograph(images.read(path, "photograph"), path, FORMATS, turn=True)
    try:
        pixels = torch.from_numpy(photograph.copy())[None].to(device)
        seen = normalise(pixels, segmenter.normalization)
        labels = segmenter.classify(segmenter(seen).logits)[0].byte().cpu().numpy()
    except (MemoryError, RuntimeError) as error:  # a CPU without memory raises a RuntimeError
        if isinstance(error, RuntimeError) and "memory" not in str(error):
            raise
        height, width, _ = photograph.shape
        raise InputError(
            f"photograph {path} has {width}x{height} pixels, for which memory does not suffice:"
            " make it smaller, or cut it into tiles."
        ) from None
    return photograph, labels


def overlay(
    photograph: UInt8[np.ndarray, "h w 3"], labels: UInt8[np.ndarray, "h w"], opacity: float
) -> Image.Image:
    """Lays the palette's colours over a photograph where a class was found."""
    colours = palette()[labels].astype(np.float32)
    share = np.where(labels == 0, 0, opacity).astype(np.float32)[..., None]
    return Image.fromarray((photograph * (1 - share) + colours * share).round().astype(np.uint8))
