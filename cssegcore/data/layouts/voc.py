"""Pascal VOC's layout in the arrangements of the field, also that of the embedded dataset."""

import dataclasses
from pathlib import Path, PurePosixPath
from typing import NamedTuple, final

from cssegcore.core.errors import InputError
from cssegcore.data.layouts._base import Layout, Split, read_names


class Arrangement(NamedTuple):
    """The folders that hold the photographs' and the labels' folders, and that of the lists."""

    photographs: str
    labels: str
    lists: str


DEVKIT = "VOCdevkit/VOC2012"
ARRANGEMENTS = (
    Arrangement("", "", "ImageSets/Segmentation"),
    Arrangement("", "", "splits"),
    Arrangement("PascalVOC12", "PascalVOC12", "PascalVOC12/splits"),
    Arrangement(DEVKIT, DEVKIT, f"{DEVKIT}/ImageSets/Segmentation"),
    Arrangement(DEVKIT, "", "list"),
)
"""Tried in this order: VOC's own folder; fcdl94/MiB's and LTTM/SDR's folder, and the one above it
(dataset/voc.py); torchvision's, which clovaai/SSUL has as well; arthurdouillard/CVPR2021_PLOP's
(dataset/voc.py)."""


@final
@dataclasses.dataclass(frozen=True)
class Voc(Layout):
    """Photographs, palette PNG labels (0 background, 1..n classes, 255 void) and list files.

    `at` finds the first of `ARRANGEMENTS` of which folders and lists are all there.

    Attributes:
        photographs: Folder of `NAME.jpg`.
        labels: Folder of `NAME.png`.
        lists: Folder of the list files; left out, that of the arrangement.
        train: Name of the training list without `.txt`, and so on.
        val: Images for monitoring.
        test: Images for evaluation; VOC publishes no test labels, so the field tests on `val`.
    """

    photographs: str = "JPEGImages"
    labels: str = "SegmentationClass"
    lists: str | None = None
    train: str = "train"
    val: str = "val"
    test: str = "val"

    def at(self, root: Path) -> Layout:
        lacks: dict[Voc, list[str]] = {}
        for place in ARRANGEMENTS:
            arranged = dataclasses.replace(
                self,
                photographs=str(PurePosixPath(place.photographs, self.photographs)),
                labels=str(PurePosixPath(place.labels, self.labels)),
                lists=place.lists if self.lists is None else self.lists,
            )
            lacks[arranged] = [path for path in arranged.needed if not (root / path).exists()]
            if not lacks[arranged]:
                return arranged
        nearest = min(lacks, key=lambda one: len(lacks[one]))
        places = "; or ".join(", ".join(one.needed) for one in lacks)
        raise InputError(
            f"the folder {root} holds no complete arrangement of Pascal VOC: put"
            f" {', '.join(lacks[nearest])} there. Looked for: {places}."
        )

    @property
    def needed(self) -> list[str]:
        """Folders and list files, relative to the root."""
        lists = dict.fromkeys((self.train, self.val, self.test))
        files = (f"{self._lists}/{name}.txt" for name in lists)
        return [self.photographs, self.labels, *files]

    def names(self, root: Path, split: Split) -> list[str]:
        chosen = {"train": self.train, "val": self.val, "test": self.test}[split]
        return read_names(root / self._lists / f"{chosen}.txt")

    def photograph(self, root: Path, name: str) -> Path:
        return root / self.photographs / f"{name}.jpg"

    def label(self, root: Path, name: str) -> Path:
        return root / self.labels / f"{name}.png"

    def saliency(self, root: Path, name: str) -> Path:
        """Returns the path of a map in clovaai/SSUL: in a folder beside the photographs'."""
        return (root / self.photographs).parent / "saliency_map" / f"{name}.png"

    @property
    def _lists(self) -> str:
        return ARRANGEMENTS[0].lists if self.lists is None else self.lists
