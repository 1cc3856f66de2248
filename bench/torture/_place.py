"""Where a hostile input is made."""

import dataclasses
import random
from pathlib import Path

from PIL import Image

from bench.torture._tree import Tree
from tests.helpers import tiny_dataset as scenes


@dataclasses.dataclass(frozen=True)
class Place:
    """Where an input is made.

    Attributes:
        tree: A fresh project that has a finished step of its own.
        marker: A file that is there once something was executed.
        rng: What the input may vary by.
    """

    tree: Tree
    marker: Path
    rng: random.Random

    @property
    def photograph(self) -> Path:
        """A photograph of the dataset, which is removed."""
        return self.removed(self.tree.root / "JPEGImages/t0.jpg")

    @property
    def label(self) -> Path:
        """Its label image, which is removed."""
        return self.removed(self.tree.root / "SegmentationClass/t0.png")

    def removed(self, path: Path) -> Path:
        """Removes a file and returns where it was."""
        path.unlink()
        return path

    def list(self, line: str | bytes) -> None:
        """Adds a line to the training list."""
        path = self.tree.root / "ImageSets/Segmentation/train.txt"
        more = line.encode("utf-8", "surrogateescape") if isinstance(line, str) else line
        path.write_bytes(path.read_bytes() + more + b"\n")

    def class_name(self, name: str) -> None:
        """Gives a class another name."""
        self.tree.params["dataset"]["classes"] = ["background", *scenes.CLASSES[:3], name]
        self.tree.project.set("scenario.classes.step2", [name])

    def to_predict(self, name: str) -> Path:
        """Returns the path of a photograph to be labelled, beside a good one."""
        folder = self.tree.folder / "photographs"
        folder.mkdir(exist_ok=True)
        Image.fromarray(scenes.draw([1], 4)[0]).save(folder / "good.png")
        return folder / name
