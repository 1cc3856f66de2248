"""The list of images that a step trains on, is monitored on or is tested on, as a file has it."""

import dataclasses
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cssegcore.core.errors import InputError
from cssegcore.core.files import write_text
from cssegcore.scenario.scenario import Void
from cssegcore.core.config import parse
from cssegcore.core.types import BACKGROUND, IGNORE


@dataclasses.dataclass(frozen=True)
class ImageList:
    """The images of one step for one purpose, and what their labels mean there.

    Attributes:
        step: Name of the step, and `index` its place.
        classes: Names of the network outputs, a list for each step, background first. A test list
            names those of later steps as well: their pixels are counted apart.
        raw: The raw label of each of `classes`.
        visible: Raw labels whose annotation may be read; all others read as background.
        images: Name and content digest of each image, so that a changed photograph or label
            changes the lists it stands in and nothing else.
        void: What raw 255 reads as. A training's parameter and so in no file: lists are read with
            `ignore`, which is what tests count with.
    """

    step: str
    index: int
    classes: list[list[str]]
    raw: list[list[int]]
    visible: list[int]
    images: list[list[str]]
    void: Void = "ignore"

    def label_table(self) -> NDArray[np.uint8]:
        """Returns the 256-entry table raw label -> position in `classes`, or 255."""
        table = np.full(256, BACKGROUND, np.uint8)
        outputs = [raw for step in self.raw for raw in step]
        for raw in self.visible:
            table[raw] = outputs.index(raw)
        table[IGNORE] = IGNORE if self.void == "ignore" else BACKGROUND
        return table

    @property
    def names(self) -> list[str]:
        """Names of the images, in order."""
        return [name for name, _ in self.images]

    def write(self, path: Path) -> None:
        """Writes JSON with one image a line, so that a person and `diff` can read it."""
        left_out = ("images", "void")
        head = {k: v for k, v in vars(self).items() if k not in left_out}
        lines = [f' "{k}": {json.dumps(v, ensure_ascii=False)}' for k, v in head.items()]
        images = ",\n  ".join(json.dumps(i, ensure_ascii=False) for i in self.images)
        write_text(path, "{\n" + ",\n".join(lines) + f',\n "images": [\n  {images}\n ]\n}}\n')

    @classmethod
    def read(cls, path: Path) -> "ImageList":
        """Reads what `write` wrote.

        Raises:
            InputError: The file is missing or not such a list.
        """
        try:
            return parse(cls, json.loads(path.read_text(encoding="utf-8")), str(path))
        except FileNotFoundError:
            raise InputError(f"{path} does not exist: run `dvc repro split`.") from None
        except json.JSONDecodeError as error:
            raise InputError(f"{path} is not JSON ({error}): run `dvc repro -f split`.") from None
