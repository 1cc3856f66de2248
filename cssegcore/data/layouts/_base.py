"""Interface of a layout."""

import abc
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cssegcore.core.errors import InputError
from cssegcore.core.files import read_text

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")
PHOTOGRAPH_SUFFIXES = (".jpg", ".jpeg", ".png")


class Layout(abc.ABC):
    """Paths of a dataset's files below its root, and the meaning of its label values."""

    def at(self, root: Path) -> "Layout":
        """Returns the form of the layout at `root`; some datasets are published in several forms.

        Raises:
            InputError: None of them is there.
        """
        return self

    @abc.abstractmethod
    def names(self, root: Path, split: Split) -> list[str]:
        """Lists the images of a part in the dataset's own order.

        Raises:
            InputError: The list is missing, empty or names an image twice.
        """

    @abc.abstractmethod
    def photograph(self, root: Path, name: str) -> Path:
        """Returns the path of a photograph."""

    @abc.abstractmethod
    def label(self, root: Path, name: str) -> Path:
        """Returns the path of a label image."""

    def draws_parts(self, root: Path) -> bool:
        """Whether no list says which part an image belongs to, so that its name draws it."""
        del root
        return False

    def domain(self, name: str) -> str:
        """Returns the domain of an image, such as its city; "" if the dataset has none."""
        return ""

    def saliency(self, root: Path, name: str) -> Path:
        """Returns the path of a published saliency map, if there is one; by default SSUL's."""
        return root / "saliency_map" / f"{name}.png"

    def raw(self, stored: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Maps stored label values to raw labels: 0 background, 1..n classes, 255 void."""
        return stored


def read_names(path: Path) -> list[str]:
    """Reads a list file, one name a line; blank lines, CRLF, a BOM, a missing last LF are fine.

    A line may also be a pair of paths, photograph and label image, as MiB, PLOP and the SegNet
    tutorial have them: the name is that of the files.

    Raises:
        InputError: The file is missing, empty, no text, repeats a name or pairs two.
    """
    try:
        text = read_text(path)
    except OSError as error:
        raise InputError(
            f"the list {path} cannot be read ({error.strerror}): check `dataset.root` and"
            " `dataset.layout`."
        ) from None
    except UnicodeDecodeError:
        raise InputError(f"the list {path} is not UTF-8 text: save it as such.") from None
    names = [_name(line.strip(), path) for line in text.split("\n") if line.strip()]
    if not names:
        raise InputError(f"the list {path} is empty: put one name a line.")
    if len(set(names)) < len(names):
        twice = next(n for n in names if names.count(n) > 1)
        raise InputError(f"the list {path} names {twice!r} twice: remove one of the lines.")
    return names


def _name(line: str, path: Path) -> str:
    """Returns the name in a line, or that of a pair of paths."""
    photograph, _, label = line.partition("\t" if "\t" in line else " ")
    photograph = photograph.rstrip()
    if not (photograph.endswith(PHOTOGRAPH_SUFFIXES) and label.endswith(".png")):
        return line
    name, other = (PurePosixPath(given.strip()).stem for given in (photograph, label))
    if name != other:
        raise InputError(
            f"the list {path} pairs {name!r} with {other!r}: a photograph and its label image must"
            " have one name."
        )
    return name
