"""Which class arrives when, which image belongs to which step, and raw label -> network output.

The rules are those of Cermelli et al. (MiB, CVPR 2020), which the field shares. Raw labels are the
reader's: 0 background, 1..n the classes in the dataset's order, 255 void. Network outputs stand in
learning order: background, then the classes of step 0 as listed, of step 1, …; so an output's index
differs from the raw label where a scenario is not sorted.
"""

import dataclasses
import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cssegcore.errors import InputError
from cssegcore.files import write_text
from cssegcore.strict import build, nearest
from cssegcore.types import BACKGROUND, IGNORE

Setting = Literal["overlapped", "disjoint"]


@dataclasses.dataclass(frozen=True)
class Step:
    """One learning step: `classes` are those it adds, `raw` their labels in the dataset."""

    name: str
    index: int
    classes: tuple[str, ...]
    raw: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Scenario:
    """Steps in order, and the rule that gives each its images."""

    setting: Setting
    steps: tuple[Step, ...]

    @classmethod
    def of(
        cls, setting: Setting, table: Sequence[str], steps: Mapping[str, Sequence[str]]
    ) -> "Scenario":
        """Checks the class lists of `steps` against the dataset's `table` (background first).

        Raises:
            InputError: A class is unknown, stands in two steps or in none, or a step has none.
        """
        taken: dict[str, str] = {}
        made = []
        for index, (name, classes) in enumerate(steps.items()):
            if not classes:
                raise InputError(f"`scenario.classes.{name}` is empty: give the step a class.")
            for wanted in classes:
                _check_class(wanted, name, table, taken)
                taken[wanted] = name
            raw = tuple(table.index(c) for c in classes)
            made.append(Step(name, index, tuple(classes), raw))
        if left := [c for c in table[1:] if c not in taken]:
            raise InputError(
                f"`scenario.classes`: no step learns {', '.join(left)}; add them to a step's list."
            )
        return cls(setting, tuple(made))

    def trains(self, present: Collection[int], index: int) -> bool:
        """Whether an image that holds the raw labels `present` is a training image of a step.

        overlapped: it shows a class of the step. disjoint: and no class of a later step.
        """
        step = self.steps[index]
        if not any(raw in present for raw in step.raw):
            return False
        later = {raw for s in self.steps[index + 1 :] for raw in s.raw}
        return self.setting == "overlapped" or later.isdisjoint(present)

    def tests(self, present: Collection[int], index: int) -> bool:
        """Whether an image is in the cumulative test set: it shows any class seen so far."""
        return any(raw in present for s in self.steps[: index + 1] for raw in s.raw)


def _check_class(wanted: str, step: str, table: Sequence[str], taken: Mapping[str, str]) -> None:
    key = f"`scenario.classes.{step}`"
    if wanted == table[BACKGROUND]:
        raise InputError(f"{key} lists {wanted!r}, which every step has by itself: leave it out.")
    if wanted not in table:
        raise InputError(
            f"{key}: the dataset has no class {wanted!r}.{nearest(wanted, table[1:])}"
            f" Known: {', '.join(table[1:])}."
        )
    if wanted in taken:
        raise InputError(f"{key}: {wanted!r} is learned in {taken[wanted]} already.")


@dataclasses.dataclass(frozen=True)
class StepList:
    """The images of one step for one purpose, and what their labels mean there.

    Attributes:
        step: Name of the step, and `index` its place.
        classes: Names of the network outputs, a list for each step, background first. A test list
            names those of later steps as well: their pixels are counted apart.
        raw: The raw label of each of `classes`.
        visible: Raw labels whose annotation may be read; all others read as background.
        images: Name and content digest of each image, so that a changed photograph or label
            changes the lists it stands in and nothing else.
    """

    step: str
    index: int
    classes: list[list[str]]
    raw: list[list[int]]
    visible: list[int]
    images: list[list[str]]

    def label_table(self) -> NDArray[np.uint8]:
        """Returns the 256-entry table raw label -> position in `classes`; void stays 255."""
        table = np.full(256, BACKGROUND, np.uint8)
        outputs = [raw for step in self.raw for raw in step]
        for raw in self.visible:
            table[raw] = outputs.index(raw)
        table[IGNORE] = IGNORE
        return table

    @property
    def names(self) -> list[str]:
        """Names of the images, in order."""
        return [name for name, _ in self.images]

    def write(self, path: Path) -> None:
        """Writes JSON with one image a line, so that a person and `diff` can read it."""
        head = {k: v for k, v in dataclasses.asdict(self).items() if k != "images"}
        lines = [f' "{k}": {json.dumps(v, ensure_ascii=False)}' for k, v in head.items()]
        images = ",\n  ".join(json.dumps(i, ensure_ascii=False) for i in self.images)
        write_text(path, "{\n" + ",\n".join(lines) + f',\n "images": [\n  {images}\n ]\n}}\n')

    @classmethod
    def read(cls, path: Path) -> "StepList":
        """Reads what `write` wrote.

        Raises:
            InputError: The file is missing or not such a list.
        """
        try:
            return build(cls, json.loads(path.read_text(encoding="utf-8")), str(path))
        except FileNotFoundError:
            raise InputError(f"{path} does not exist: run `dvc repro split`.") from None
        except json.JSONDecodeError as error:
            raise InputError(f"{path} is not JSON ({error}): run `dvc repro -f split`.") from None
