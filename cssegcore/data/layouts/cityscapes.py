"""Cityscapes with fine annotations: 19 classes of road scenes, no background, 21 cities."""

import dataclasses
from pathlib import Path
from typing import final

import numpy as np
from numpy.typing import NDArray

from cssegcore.core.errors import InputError
from cssegcore.core.types import IGNORE
from cssegcore.data.layouts._base import Layout, Split

LABEL_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
"""The `labelIds` that are evaluated, in the order of their `trainIds` 0 to 18
(mcordts/cityscapesScripts, helpers/labels.py); all others are void."""
PHOTOGRAPH = "_leftImg8bit.png"


@final
@dataclasses.dataclass(frozen=True)
class Cityscapes(Layout):
    """`leftImg8bit/FOLDER/CITY/NAME_leftImg8bit.png`, `gtFine/…/NAME_gtFine_labelIds.png`.

    The class of trainId k has the raw label k+1: a scenario's background stands in front. No test
    labels are published, so the field tests on the folder `val`.

    Attributes:
        background: Whether the raw label 0 is kept for a background, which a scenario by classes
            needs. Without it the class of trainId 0 takes its place.
    """

    background: bool = True

    def names(self, root: Path, split: Split) -> list[str]:
        """Lists the photographs of a part, `FOLDER/CITY/NAME`, sorted as PLOP does.

        Raises:
            InputError: The folder is missing or holds none.
        """
        below = root / "leftImg8bit" / ("train" if split == "train" else "val")
        found = [path.relative_to(below.parent) for path in below.glob(f"*/[!.]*{PHOTOGRAPH}")]
        if not found:
            raise InputError(
                f"the folder {below} holds no photograph (CITY/NAME{PHOTOGRAPH}): check"
                " `dataset.root`."
            )
        return sorted(path.as_posix().removesuffix(PHOTOGRAPH) for path in found)

    def photograph(self, root: Path, name: str) -> Path:
        return root / "leftImg8bit" / f"{name}{PHOTOGRAPH}"

    def label(self, root: Path, name: str) -> Path:
        return root / "gtFine" / f"{name}_gtFine_labelIds.png"

    def domain(self, name: str) -> str:
        """Returns the city."""
        return name.split("/")[1]

    def raw(self, stored: NDArray[np.uint8]) -> NDArray[np.uint8]:
        table = np.full(256, IGNORE, np.uint8)
        table[list(LABEL_IDS)] = np.arange(len(LABEL_IDS)) + self.background
        return table[stored]
