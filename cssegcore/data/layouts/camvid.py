"""CamVid as the SegNet tutorial lays it out: 11 classes of road scenes, no background."""

import dataclasses
from pathlib import Path
from typing import final

import numpy as np
from numpy.typing import NDArray

from cssegcore.core.types import IGNORE
from cssegcore.data.layouts._base import Layout, Split, read_names


@final
@dataclasses.dataclass(frozen=True)
class Camvid(Layout):
    """`train/NAME.jpg`, `trainannot/NAME.png`, `train.txt`, and the same for val and test.

    Attributes:
        suffix: File name ending of the photographs; where there are none, the tutorial's, `.png`.
        unlabelled: Stored value that means void. Class k is stored as k, so its raw label is k+1.
    """

    suffix: str = ".jpg"
    unlabelled: int = 11

    def at(self, root: Path) -> Layout:
        first = self.names(root, "train")[0]
        own = dataclasses.replace(self, suffix=".png")
        missing = not self.photograph(root, first).exists()
        return own if missing and own.photograph(root, first).exists() else self

    def names(self, root: Path, split: Split) -> list[str]:
        return [f"{split}/{name}" for name in read_names(root / f"{split}.txt")]

    def photograph(self, root: Path, name: str) -> Path:
        return root / f"{name}{self.suffix}"

    def label(self, root: Path, name: str) -> Path:
        split, image = name.split("/", 1)
        return root / f"{split}annot" / f"{image}.png"

    def raw(self, stored: NDArray[np.uint8]) -> NDArray[np.uint8]:
        table = np.arange(1, 257, dtype=np.uint16).clip(max=IGNORE - 1).astype(np.uint8)
        table[self.unlabelled] = IGNORE
        table[IGNORE] = IGNORE
        return table[stored]
