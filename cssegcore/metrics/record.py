"""Record of a step's evaluation: its confusion matrix, and the step of each class."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64

from cssegcore.core.config import parse
from cssegcore.core.types import BACKGROUND


@dataclass(frozen=True)
class Evaluated:
    """One evaluated step.

    Attributes:
        step: Its name.
        index: Its place in the order of learning, from 0.
        classes: The names of all classes of the scenario in the order of learning.
        learned: The index of the step in which each class arrives; 0 for the background.
        seen: Number of the classes for which the network has outputs.
        images: Number of the counted test images.
        matrix: Pixels; a row for every class (also those to come), a column for every seen one.
    """

    step: str
    index: int
    classes: list[str]
    learned: list[int]
    seen: int
    images: int
    matrix: list[list[int]]

    def __post_init__(self) -> None:
        if len(self.learned) != len(self.classes) or sorted(self.learned) != self.learned:
            raise ValueError(
                f"`learned` must hold one step index for each of the {len(self.classes)} classes,"
                f" in rising order, got {self.learned}."
            )
        if not 1 <= self.seen <= len(self.classes):
            raise ValueError(
                f"`seen` must lie in [1, {len(self.classes)}], the classes, got {self.seen}."
            )
        shapes = {len(row) for row in self.matrix}
        if len(self.matrix) != len(self.classes) or shapes != {self.seen}:
            raise ValueError(
                f"`matrix` must have {len(self.classes)} rows (classes) of {self.seen} columns"
                f" (`seen`), got {len(self.matrix)} rows of {sorted(shapes)} columns."
            )

    @property
    def counts(self) -> Int64[np.ndarray, "c k"]:
        """The confusion matrix as an array."""
        return np.array(self.matrix, dtype=np.int64)

    def groups(self) -> dict[str, list[int]]:
        """Returns the outputs each mean is taken over.

        `all` seen classes, `old` ones of earlier steps, `new` ones of this step, `base` ones of
        step 0, `added` ones of all later steps. The background is a class of step 0, so it belongs
        to `all`, `old` and `base`, and to `new` at step 0 only: PLOP's convention. `*_nobg` are the
        same without it: MiB's. At step 0 `old` and `added` are empty.
        """
        arrival = dict(enumerate(self.learned[: self.seen]))
        groups = {
            "all": list(arrival),
            "old": [c for c, step in arrival.items() if step < self.index],
            "new": [c for c, step in arrival.items() if step == self.index],
            "base": [c for c, step in arrival.items() if step == 0],
            "added": [c for c, step in arrival.items() if step > 0],
        }
        without = {
            f"{name}_nobg": [c for c in members if c != BACKGROUND]
            for name, members in groups.items()
        }
        return groups | without


def evaluated(confusion: Mapping[str, object], where: str) -> Evaluated:
    """Reads the content of a `confusion.json`.

    Raises:
        InputError: It does not fit; `where` names it.
    """
    return parse(Evaluated, confusion, where)
