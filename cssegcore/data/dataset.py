"""One small interface to every dataset: names, photographs, labels."""

import contextlib
import dataclasses
import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Int64
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from cssegcore.data.layouts import Layout
from cssegcore.data.layouts._base import Split, read_names
from cssegcore.core.errors import InputError
from cssegcore.core.registry import build_part
from cssegcore.core.config import parse
from cssegcore.core.types import IGNORE, Background

LAYOUTS = "cssegcore.data.layouts"


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A dataset in place, wherever it lies; nothing is ever written into it.

    Attributes:
        name: What reports call it.
        root: Its folder.
        layout: Where files lie below the root.
        classes: Names of the raw labels 0..n, background first.
    """

    name: str
    root: Path
    layout: Layout
    classes: tuple[str, ...]

    def names(self, split: Split) -> list[str]:
        """Lists the images of a part ("train", "val", "test")."""
        return self.layout.names(self.root, split)

    def photograph_path(self, name: str) -> Path:
        """Returns where a photograph lies."""
        return self.layout.photograph(self.root, name)

    def label_path(self, name: str) -> Path:
        """Returns where a label image lies."""
        return self.layout.label(self.root, name)

    def domain(self, name: str) -> str:
        """Returns where an image was taken, "" where the dataset does not tell."""
        return self.layout.domain(name)

    def photograph(self, name: str) -> NDArray[np.uint8]:
        """Decodes a photograph to RGB, shape (h, w, 3).

        Raises:
            InputError: The file is missing, truncated or no image.
        """
        path = self.photograph_path(name)
        return np.asarray(decode(path, "photograph").convert("RGB"))

    def check_photograph(self, name: str) -> tuple[bytes, tuple[int, int]]:
        """Reads a photograph through and returns the file's content and its shape (h, w).

        It is not decoded where there is a cheaper way to find what is cut off: the checksums in
        a PNG, a JPEG's stream read to its end at an eighth of the size.

        Raises:
            InputError: The file is missing, truncated or no image.
        """
        path = self.photograph_path(name)
        content = _read(path, "photograph")
        with _opened(content, path, "photograph") as image:
            shape = (image.height, image.width)
            if image.format == "PNG":
                image.verify()
            else:
                image.draft("L", (1, 1))
                image.load()
        return content, shape

    def label(self, name: str) -> NDArray[np.uint8]:
        """Decodes a label image to raw labels, shape (h, w): 0..n, 255 void.

        Raises:
            InputError: The file is missing, truncated, not one 8-bit channel, or holds a value
                outside the class table.
        """
        path = self.label_path(name)
        image = decode(path, "label image")
        self._count(image, path)
        return self.layout.raw(np.asarray(image))

    def count_labels(self, name: str) -> tuple[bytes, tuple[int, int], Int64[np.ndarray, "256"]]:
        """Returns a label image's content, shape (h, w), and its pixels of each raw label.

        Raises:
            InputError: As for `label`.
        """
        path = self.label_path(name)
        content = _read(path, "label image")
        image = _decoded(content, path, "label image")
        return content, (image.height, image.width), self._count(image, path)

    def _count(self, image: Image.Image, path: Path) -> Int64[np.ndarray, "256"]:
        if image.mode not in ("P", "L"):
            raise InputError(
                f"label image {path} has mode {image.mode}; it must hold one 8-bit channel"
                " (palette or grey PNG) with the class number of each pixel."
            )
        raw = self.layout.raw(np.arange(256, dtype=np.uint8))
        stored = np.array(image.histogram(), np.int64)
        wrong = np.flatnonzero((stored > 0) & (raw >= len(self.classes)) & (raw != IGNORE))
        if wrong.size:
            raise self._unknown_value(path, int(wrong[-1]))
        counts = np.zeros(256, np.int64)
        np.add.at(counts, raw, stored)
        return counts

    def _unknown_value(self, path: Path, value: int) -> InputError:
        """Says which values a label image may hold, as they are stored in this layout."""
        raw = self.layout.raw(np.arange(256, dtype=np.uint8))
        known = np.flatnonzero(raw < len(self.classes))
        void = ", ".join(map(str, np.flatnonzero(raw == IGNORE)))
        return InputError(
            f"label image {path} holds the value {value}, but its classes are {known[0]} to"
            f" {known[-1]} ({self.classes[raw[known[-1]]]}), void is {void}: fix the image or add"
            " the class to `dataset.classes`."
        )


def open_dataset(settings: Mapping[str, object]) -> Dataset:
    """Opens the dataset that the parameters' section `dataset` names.

    Raises:
        InputError: A key is wrong, the root does not exist, or neither the layout nor a class table
            is found.
    """
    given = parse(_Settings, settings, "dataset")
    root = Path(given.root).expanduser()
    if not root.is_dir():
        raise InputError(
            f"`dataset.root` is {given.root!r}, and there is no such folder"
            f"{'' if root.is_absolute() else f' below {Path.cwd()}'}."
            f" {given.help or 'Give the path of the dataset: -S dataset.root=/absolute/path.'}"
        )
    layout = build_part(LAYOUTS, Layout, given.layout, "dataset.layout").at(root)
    classes, table = given.classes, root / "classes.txt"
    if classes is None:
        if not table.exists():
            raise InputError(
                f"`dataset.classes` is not given and {table} does not exist: name the classes in"
                " either, background first."
            )
        classes = tuple(read_names(table))
    if len(classes) < 2 or len(set(classes)) < len(classes) or len(classes) > 255:
        raise InputError(
            f"the class table of dataset {given.name!r} must hold 2 to 255 different names,"
            f" background first; got {', '.join(classes)}."
        )
    return Dataset(given.name, root, layout, tuple(classes))


@dataclasses.dataclass(frozen=True)
class _Settings:
    name: str
    root: str
    layout: dict[str, object]
    classes: tuple[str, ...] | None = None
    background: Background = "annotated"  # reports ask
    help: str = ""


def read_labels(path: Path, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Reads a label image that a stage of the pipeline made for a photograph of `shape` (h, w).

    Raises:
        InputError: It is missing, unreadable, or of another size.
    """
    labels = np.asarray(decode(path, "label image"))
    if labels.shape != shape or labels.dtype != np.uint8:
        raise InputError(
            f"label image {path} has the shape {labels.shape}, its photograph {shape}: delete its"
            " folder and run `dvc repro`."
        )
    return labels


def decode(path: Path, what: str) -> Image.Image:
    """Opens and decodes an image file; `what` names it in errors.

    Raises:
        InputError: The file is missing, truncated or no image.
    """
    return _decoded(_read(path, what), path, what)


def _read(path: Path, what: str) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise InputError(
            f"{what} {path} does not exist: put it there or take its name off the list."
        ) from None
    except OSError as error:
        raise _unreadable(path, what, error.strerror) from None


def _decoded(content: bytes, path: Path, what: str) -> Image.Image:
    with _opened(content, path, what) as image:
        image.load()
        return image


@contextlib.contextmanager
def _opened(content: bytes, path: Path, what: str) -> Iterator[Image.Image]:
    """Gives an image that is not decoded yet, and says in one line what goes wrong inside."""
    try:
        with Image.open(io.BytesIO(content)) as image:
            yield image
    except UnidentifiedImageError:
        raise _unreadable(path, what, "no image in a known format") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise _unreadable(path, what, error) from None


def _unreadable(path: Path, what: str, reason: object) -> InputError:
    return InputError(f"{what} {path} cannot be read ({reason}): replace the file.")
