"""Photographs in, label images, overlays and maps of certainty out."""

import contextlib
import dataclasses
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final, Literal, get_args

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int64, UInt8
from PIL import Image

from cssegcore.core.errors import InputError
from cssegcore.core.files import digest, replacing
from cssegcore.core.jpeg import save_jpeg
from cssegcore.core.palette import MARK, palette, save_labels
from cssegcore.core.types import Progress
from cssegcore.data import images
from cssegcore.evaluation.score import WHOLE, Scored, View, score_photograph
from cssegcore.models.segmenter import Segmenter

Certainty = Literal["confidence", "entropy"]
"""A grey map beside the labels."""

CERTAINTIES: Final[tuple[Certainty, ...]] = get_args(Certainty)


@dataclasses.dataclass(frozen=True)
class Labelling:
    """Settings of the labelling of photographs and of its files.

    Attributes:
        opacity: Opacity of the colours over the photograph; background stays clear.
        view: Size and tiles of a photograph for the network.
        maps: Kinds of files beside labels and overlay.
        model: Digest of the model.
    """

    opacity: float
    view: View = WHOLE
    maps: tuple[Certainty, ...] = ()
    model: str = ""

    def mark(self, content: bytes) -> str:
        """Returns a digest that identifies photograph, model and settings of a label file."""
        seen = [] if self.view == WHOLE else [str(dataclasses.astuple(self.view)).encode()]
        return digest(content, self.model.encode(), str(self.opacity).encode(), *seen)

    def files(self, out: Path, name: str) -> list[Path]:
        """Returns the paths of a photograph's files, the label image first."""
        ends = [".png", ".overlay.jpg", *(f".{kind}.png" for kind in self.maps)]
        return [out / f"{name}{end}" for end in ends]


@dataclasses.dataclass(frozen=True)
class Counted:
    """The pixels that each class has in a photograph, or in all frames of a video."""

    path: Path
    counts: Int64[np.ndarray, " k"]

    @property
    def shares(self) -> Float64[np.ndarray, " k"]:
        """The share of all pixels that each class has."""
        return self.counts / max(1, self.counts.sum())


@dataclasses.dataclass(frozen=True)
class Labelled:
    """Result of labelling photographs.

    Attributes:
        each: The pixels of each photograph that is labelled, in the given order.
        before: Number of photographs that an earlier call had labelled.
        failures: One line for each photograph that could not be labelled.
    """

    each: list[Counted]
    before: int
    failures: list[str]


class TooLargeError(InputError):
    """A photograph for which memory does not suffice."""


def label_photographs(
    segmenter: Segmenter,
    photographs: Sequence[Path],
    out: Path,
    how: Labelling,
    device: torch.device,
    progress: Progress,
) -> Labelled:
    """Labels photographs of any size, turned as viewers show them.

    All are checked first. One that cannot be read, or does not fit into memory, is left out; the
    others are labelled. A label image keeps a digest of what it was made of, so the same call again
    goes on with what is missing.

    Args:
        segmenter: The model.
        photographs: Files with different names.
        out: Folder of NAME.png (palette), NAME.overlay.jpg and the maps.
        how: Settings of the labelling.
        device: Device of the model.
        progress: Wraps the iterable of paths (second argument: their number).

    Raises:
        InputError: A result cannot be written, or would replace a file that is no result.
    """
    segmenter.eval()
    counts: dict[Path, Int64[np.ndarray, " k"]] = {}
    marks: dict[Path, str] = {}
    failures: list[str] = []
    for path in photographs:
        try:
            content = images.read(path, "photograph")
            mark = how.mark(content)
            done = _done(how.files(out, path.stem), mark)
            if done is None:
                images.check_photograph(content, path, images.MORE_FORMATS, turn=True)
                marks[path] = mark
            else:
                counts[path] = count_labels(done, segmenter.classes)
        except InputError as error:
            failures.append(str(error))
    before = len(counts)
    for path, mark in progress(marks.items(), len(marks)):
        try:
            photograph, scored = _label(segmenter, path, device, how.view)
        except InputError as error:
            failures.append(str(error))
            continue
        try:
            with _enough_memory(path):
                _write(how, how.files(out, path.stem), photograph, scored, mark)
        except TooLargeError as error:  # a full disk ends it all
            failures.append(str(error))
            continue
        counts[path] = count_labels(scored.labels, segmenter.classes)
    each = [Counted(path, counts[path]) for path in photographs if path in counts]
    return Labelled(each, before, failures)


def count_labels(labels: UInt8[np.ndarray, "..."], classes: int) -> Int64[np.ndarray, " k"]:
    """Counts the pixels of each class."""
    return np.bincount(labels.ravel(), minlength=classes).astype(np.int64)


def check_room(out: Path, names: Iterable[str], how: Labelling) -> None:
    """Makes sure that no file stands where a result goes, unless it is a result itself.

    Raises:
        InputError: One does, the folder itself is none, or two results would be one file.
    """
    names = list(names)
    made = [path for name in names for path in how.files(out, name)]
    if twice := [path for path, count in Counter(made).items() if count > 1]:
        raise InputError(
            f"two of the photographs would be labelled into one file, {twice[0]}: label them into"
            " two folders."
        )
    if os.path.lexists(out) and not out.is_dir():
        raise InputError(f"{out} is no folder: name an --out that is empty or not there.")
    for name in names:
        label, *others = how.files(out, name)
        for path in (label, *others):
            if path.exists() and not _mark(label):
                raise InputError(
                    f"{path} is there already: name an --out that is empty or not there."
                )


def _done(files: list[Path], mark: str) -> UInt8[np.ndarray, "h w"] | None:
    """Returns the labels that an earlier call made of the same photograph, or None.

    Raises:
        InputError: It made them of something else.
    """
    path = files[0]
    if not path.exists():
        return None
    if _mark(path) != mark:
        raise InputError(
            f"{path} was made of another photograph or model, or with another opacity, size or"
            " tiles: name an --out that is empty or not there."
        )
    if not all(file.exists() for file in files):
        return None
    return images.labels(images.read(path, "label image"), path)


def _mark(path: Path) -> str:
    """Returns the mark in a label image, "" if it is none of ours."""
    try:
        with images.opened(path.read_bytes(), path, "label image", images.LABELS) as image:
            return str(image.info.get(MARK, ""))
    except OSError:
        return ""
    except InputError as error:
        if images.LIMIT in str(error):  # it may well be ours
            raise
        return ""


def _label(
    segmenter: Segmenter, path: Path, device: torch.device, view: View
) -> tuple[UInt8[np.ndarray, "h w 3"], Scored]:
    with _enough_memory(path):
        content = images.read(path, "photograph")
        photograph = images.photograph(content, path, images.MORE_FORMATS, turn=True)
        return photograph, score_photograph(segmenter, photograph, device, view)


@contextlib.contextmanager
def _enough_memory(path: Path) -> Iterator[None]:
    """Turns the error of a photograph that memory does not hold into one about this photograph."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:  # a CPU without memory raises a RuntimeError
        if isinstance(error, RuntimeError) and "memory" not in str(error):
            raise
        content = images.read(path, "photograph")
        with images.opened(content, path, "photograph", images.MORE_FORMATS) as image:
            width, height = image.size
        raise TooLargeError(
            f"photograph {path} has {width}x{height} pixels, for which memory does not suffice: cut"
            " it into tiles (--tile 1024), or have it made smaller (--size 512)."
        ) from None


def _write(
    how: Labelling,
    files: list[Path],
    photograph: UInt8[np.ndarray, "h w 3"],
    scored: Scored,
    mark: str,
) -> None:
    """Writes all files of a photograph, the label image first: its mark identifies the others."""
    label, drawn, *maps = files
    with replacing(label, durable=False) as temporary:
        save_labels(temporary, scored.labels, mark)
    with replacing(drawn, durable=False) as temporary:
        save_jpeg(temporary, Image.fromarray(overlay(photograph, scored.labels, how.opacity)), 92)
    values = {"confidence": scored.confidences, "entropy": scored.entropies}
    for kind, path in zip(how.maps, maps, strict=True):
        with replacing(path, durable=False) as temporary:
            Image.fromarray(grey(values[kind])).save(temporary, "PNG")


def grey(values: Float32[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w"]:
    """Returns values of 0 to 1 as 0 to 255; others are clipped."""
    return (values.clip(0, 1) * 255).round().astype(np.uint8)


def overlay(
    photograph: UInt8[np.ndarray, "h w 3"], labels: UInt8[np.ndarray, "h w"], opacity: float
) -> UInt8[np.ndarray, "h w 3"]:
    """Lays the palette's colours over a photograph where a class was found."""
    colours = palette()[labels].astype(np.float32)
    share = np.where(labels == 0, 0, opacity).astype(np.float32)[..., None]
    return (photograph * (1 - share) + colours * share).round().astype(np.uint8)
