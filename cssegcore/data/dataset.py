"""One small interface to every dataset: names, photographs, labels."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Int64, UInt8

from cssegcore.core.config import parse
from cssegcore.core.errors import InputError
from cssegcore.core.files import digest
from cssegcore.core.names import BACKGROUND_NAMES, unfit, unfit_class
from cssegcore.core.registry import build_part
from cssegcore.core.types import IGNORE, Background
from cssegcore.data import images
from cssegcore.data.layouts import Layout
from cssegcore.data.layouts._base import Split, read_names

LAYOUTS = "cssegcore.data.layouts"


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A dataset in place, wherever it lies; nothing is ever written into it.

    Attributes:
        name: Name in reports.
        root: Folder of the dataset.
        layout: Layout of the files below the root.
        classes: Names of the raw labels 0..n, background first.
    """

    name: str
    root: Path
    layout: Layout
    classes: tuple[str, ...]

    def names(self, split: Split) -> list[str]:
        """Lists the images of a part ("train", "val", "test").

        Raises:
            InputError: The layout's `names` raises it; or a name is no path below a folder, so that
                a stage that writes a file of that name would write elsewhere.
        """
        names = self.layout.names(self.root, split)
        for name in names:
            if why := unfit(name):
                raise InputError(
                    f"{self.root}: the {split} images hold the name {name[:80]!r}, and {why}. Put"
                    " names or paths below the dataset's folders into its lists, or rename the"
                    " file."
                )
        return names

    def photograph_path(self, name: str) -> Path:
        """Returns the path of a photograph."""
        return self.layout.photograph(self.root, name)

    def label_path(self, name: str) -> Path:
        """Returns the path of a label image."""
        return self.layout.label(self.root, name)

    def domain(self, name: str) -> str:
        """Returns the domain of an image, such as its city; "" if the dataset has none."""
        return self.layout.domain(name)

    def photograph(self, name: str) -> UInt8[np.ndarray, "h w 3"]:
        """Decodes a photograph to RGB.

        Raises:
            InputError: The file is missing, damaged, or none that can be read rightly; see
                `images.photograph`.
        """
        path = self.photograph_path(name)
        return images.photograph(images.read(path, "photograph"), path)

    def image_size(self, name: str) -> tuple[int, int]:
        """Reads a photograph's height and width from its header: decoding takes a hundred times.

        Raises:
            InputError: The file is missing or no image.
        """
        return images.size(self.photograph_path(name), "photograph")

    def check_photograph(self, name: str) -> tuple[bytes, tuple[int, int]]:
        """Reads a photograph through and returns the file's content and its shape (h, w).

        Raises:
            InputError: `photograph` would raise it.
        """
        path = self.photograph_path(name)
        content = images.read(path, "photograph")
        return content, images.check_photograph(content, path)

    def check_content(self, name: str, digest_before: str) -> None:
        """Makes sure that photograph and label image are the same as in the index.

        A JPEG has no checksum: with a bit of it flipped it is another photograph. So this is asked
        before an image is decoded, and costs a fiftieth of that.

        Args:
            name: Name of the image.
            digest_before: Digest in the index; if empty, nothing is checked.

        Raises:
            InputError: Either has changed, or is missing.
        """
        if not digest_before:
            return
        paths = {
            "photograph": self.photograph_path(name),
            "label image": self.label_path(name),
        }
        if digest(*(images.read(path, what) for what, path in paths.items())) != digest_before:
            raise InputError(
                f"photograph {paths['photograph']} or label image {paths['label image']} is not"
                " what `index` read. If you changed it, run `dvc repro`; if not, it was damaged:"
                " put the file of before there."
            )

    def label(self, name: str) -> UInt8[np.ndarray, "h w"]:
        """Decodes a label image to raw labels: 0..n, 255 void.

        Raises:
            InputError: The file is missing, damaged, not one channel of at most 8 bits, or holds a
                value outside the class table.
        """
        path = self.label_path(name)
        stored = images.labels(images.read(path, "label image"), path)
        self._count(stored, path)
        return self.layout.raw(stored)

    def count_labels(self, name: str) -> tuple[bytes, tuple[int, int], Int64[np.ndarray, "256"]]:
        """Returns a label image's content, shape (h, w), and its pixels of each raw label.

        Raises:
            InputError: `label` would raise it.
        """
        path = self.label_path(name)
        content = images.read(path, "label image")
        stored = images.labels(content, path)
        return content, (stored.shape[0], stored.shape[1]), self._count(stored, path)

    def _count(self, image: UInt8[np.ndarray, "h w"], path: Path) -> Int64[np.ndarray, "256"]:
        raw = self.layout.raw(np.arange(256, dtype=np.uint8))
        stored = np.bincount(image.ravel(), minlength=256)
        wrong = np.flatnonzero((stored > 0) & (raw >= len(self.classes)) & (raw != IGNORE))
        if wrong.size:
            raise self._unknown_value(path, int(wrong[-1]))
        counts = np.zeros(256, np.int64)
        np.add.at(counts, raw, stored)
        return counts

    def _unknown_value(self, path: Path, value: int) -> InputError:
        """Returns the error that names the values that a label image may hold in this layout."""
        raw = self.layout.raw(np.arange(256, dtype=np.uint8))
        known = np.flatnonzero(raw < len(self.classes))
        void = ", ".join(map(str, np.flatnonzero(raw == IGNORE)))
        first = self.classes[0]
        named = first.lower() in BACKGROUND_NAMES
        shifted = "" if named else f"; {first} is 0, the background: if it is 1, put one before it"
        return InputError(
            f"label image {path} holds the value {value}, but its classes are {known[0]} to"
            f" {known[-1]} ({self.classes[raw[known[-1]]]}), void is {void}: fix the image or add"
            f" the class to `dataset.classes`{shifted}."
        )


def open_dataset(settings: Mapping[str, object]) -> Dataset:
    """Opens the dataset that the parameters' section `dataset` names.

    Raises:
        InputError: A key is wrong, the root does not exist, or neither the layout nor a class table
            is found.
    """
    given = parse(_Settings, settings, "dataset")
    root = Path(given.root)
    if given.root.startswith("~"):
        raise InputError(
            f"`dataset.root` is {given.root!r}, which a shell would expand and DVC does not: write"
            f" {root.expanduser()}."
        )
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
    if strange := [c for c in classes if unfit_class(c)]:
        raise InputError(
            f"the class table of dataset {given.name!r} names a class {strange[0][:80]!r}: give"
            " it a name without control characters, and without spaces around it."
        )
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


def read_labels(path: Path, shape: tuple[int, ...]) -> UInt8[np.ndarray, "h w"]:
    """Reads a label image that a stage of the pipeline made for a photograph of `shape` (h, w).

    Raises:
        InputError: It is missing, unreadable, or of another size.
    """
    labels = images.labels(images.read(path, "label image"), path)
    if labels.shape != shape:
        raise InputError(
            f"label image {path} has the shape {labels.shape}, its photograph {shape}: delete its"
            " folder and run `dvc repro`."
        )
    return labels
