"""What every layout answers."""

import abc
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cssegcore.errors import InputError

Part = Literal["train", "val", "test"]
PARTS: tuple[Part, ...] = ("train", "val", "test")


class Layout(abc.ABC):
    """Where the files of a dataset lie below its root, and what its label values mean."""

    @abc.abstractmethod
    def names(self, root: Path, part: Part) -> list[str]:
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

    def saliency(self, root: Path, name: str) -> Path:
        """Returns where a published saliency map lies, if there is one: SSUL's own place."""
        return root / "saliency_map" / f"{name}.png"

    def raw(self, stored: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Maps stored label values to raw labels: 0 background, 1..n classes, 255 void."""
        return stored


def read_names(path: Path) -> list[str]:
    """Reads a list file, one name a line; blank lines, CRLF and a missing last LF are fine.

    Raises:
        InputError: The file is missing, empty, no text or repeats a name.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(
            f"the list {path} cannot be read ({error.strerror}): check `dataset.root` and"
            " `dataset.layout`."
        ) from None
    except UnicodeDecodeError:
        raise InputError(f"the list {path} is not UTF-8 text: save it as such.") from None
    names = [line.strip() for line in text.splitlines() if line.strip()]
    if not names:
        raise InputError(f"the list {path} is empty: put one name a line.")
    if len(set(names)) < len(names):
        twice = next(n for n in names if names.count(n) > 1)
        raise InputError(f"the list {path} names {twice!r} twice: remove one of the lines.")
    return names
