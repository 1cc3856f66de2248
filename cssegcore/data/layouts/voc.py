"""Pascal VOC's layout, also that of the embedded dataset."""

import dataclasses
from pathlib import Path
from typing import final

from cssegcore.data.layouts._base import Layout, Part, read_names


@final
@dataclasses.dataclass(frozen=True)
class Voc(Layout):
    """Photographs, palette PNG labels (0 background, 1..n classes, 255 void) and list files.

    Attributes:
        photographs: Folder of `NAME.jpg`.
        labels: Folder of `NAME.png`.
        lists: Folder of the list files.
        train: Name of the training list without `.txt`, and so on.
        val: Images for monitoring.
        test: Images for evaluation; VOC publishes no test labels, so the field tests on `val`.
    """

    photographs: str = "JPEGImages"
    labels: str = "SegmentationClass"
    lists: str = "ImageSets/Segmentation"
    train: str = "train"
    val: str = "val"
    test: str = "val"

    def names(self, root: Path, part: Part) -> list[str]:
        chosen = {"train": self.train, "val": self.val, "test": self.test}[part]
        return read_names(root / self.lists / f"{chosen}.txt")

    def photograph(self, root: Path, name: str) -> Path:
        return root / self.photographs / f"{name}.jpg"

    def label(self, root: Path, name: str) -> Path:
        return root / self.labels / f"{name}.png"
