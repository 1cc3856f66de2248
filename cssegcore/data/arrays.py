"""A dataset of arrays in memory, which a notebook has at hand."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from cssegcore.core.errors import InputError
from cssegcore.core.types import IGNORE
from cssegcore.data.dataset import Dataset
from cssegcore.data.layouts._base import Split
from cssegcore.data.layouts.folder import Folder

Pixels = NDArray[np.uint8]
Arrays = NDArray[Any] | Sequence[NDArray[Any]]
"""One array (n, h, w, …) or a list of arrays (h, w, …), whose sizes may differ."""
ArrayStream = NDArray[Any] | Iterable[NDArray[Any]]
"""The same, or an iterator of arrays."""


@final
@dataclasses.dataclass(frozen=True)
class ArrayDataset(Dataset):
    """Photographs and labels by name, checked when they come in; no file is behind them.

    Attributes:
        photographs: RGB, uint8, (h, w, 3).
        labels: Raw labels of each, uint8, (h, w).
    """

    photographs: Mapping[str, Pixels]
    labels: Mapping[str, Pixels]

    @classmethod
    def of(
        cls, classes: Sequence[str], parts: Mapping[str, tuple[Arrays, Arrays]]
    ) -> "ArrayDataset":
        """Names the images of each part: the third of `train` is `train/2`.

        Args:
            classes: Names of the raw labels 0..n, background first.
            parts: Photographs and labels by the part's name.

        Raises:
            InputError: An array has the wrong shape or type, or a label beyond the classes.
        """
        photographs: dict[str, Pixels] = {}
        labels: dict[str, Pixels] = {}
        for part, (images, maps) in parts.items():
            if len(images) != len(maps):
                raise InputError(
                    f"{part}: there are {len(images)} images and {len(maps)} label maps: give one"
                    " label map an image."
                )
            for at, (image, label) in enumerate(zip(images, maps, strict=True)):
                check_rgb_array(image, f"{part} image {at}")
                _check_label(label, image.shape[:2], classes, f"{part} label map {at}")
                photographs[f"{part}/{at}"], labels[f"{part}/{at}"] = image, label
        return cls("arrays", Path(), Folder(), tuple(classes), photographs, labels)

    def names(self, split: Split) -> list[str]:
        return [name for name in self.photographs if name.startswith(f"{split}/")]

    def photograph(self, name: str) -> Pixels:
        return self.photographs[name]

    def image_size(self, name: str) -> tuple[int, int]:
        height, width = self.labels[name].shape
        return height, width

    def label(self, name: str) -> Pixels:
        return self.labels[name]


def check_rgb_array(image: NDArray[Any], what: str) -> None:
    """Makes sure that an array is a photograph; errors name it by `what`.

    Raises:
        InputError: It is not uint8 or not (h, w, 3).
    """
    if kind(image) != "uint8" or image.ndim != 3 or image.shape[-1] != 3 or not image.size:
        raise InputError(
            f"{what} has type {kind(image)} and shape {np.shape(image)}: give RGB values 0 to 255"
            " as uint8, shape (height, width, 3)."
        )


def kind(array: object) -> str:
    """Returns the dtype of a NumPy array, or the type of anything else."""
    return str(array.dtype) if isinstance(array, np.ndarray) else type(array).__name__


def _check_label(
    label: NDArray[Any], shape: tuple[int, ...], classes: Sequence[str], what: str
) -> None:
    if kind(label) != "uint8" or label.shape != shape:
        raise InputError(
            f"{what} has type {kind(label)} and shape {np.shape(label)}: give uint8 labels of the"
            f" image's height and width, {shape}."
        )
    wrong = np.unique(label[(label >= len(classes)) & (label != IGNORE)])
    if wrong.size:
        raise InputError(
            f"{what} holds {wrong[0]}, but its classes are 0 to {len(classes) - 1}"
            f" ({', '.join(classes)}), and void is {IGNORE}: name the class or change the label."
        )
