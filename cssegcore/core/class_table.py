"""The classes that a scenario's steps learn, in the order of the network's outputs."""

import dataclasses
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cssegcore.core.types import BACKGROUND, IGNORE

Void = Literal["ignore", "background"]
"""Training label of void pixels."""


@dataclasses.dataclass(frozen=True)
class ClassTable:
    """Names and raw labels of the network's outputs, step by step.

    >>> table = ClassTable.of([["background", "cat", "dog"], ["sheep"]], [[0, 8, 12], [17]])
    >>> table.names
    ('background', 'cat', 'dog', 'sheep')
    >>> table.sizes, table.step_of
    ([3, 1], [0, 0, 0, 1])
    >>> table.old.names, list(table.new)
    (('background', 'cat', 'dog'), [3])

    Attributes:
        names_by_step: Names of the outputs that each step adds. Background is the first output of
            step 0; a step that brings a domain adds none.
        raw_by_step: The dataset's label of each output, 0 for background.

    Raises:
        ValueError: The two differ in the number of steps or of a step's classes.
    """

    names_by_step: tuple[tuple[str, ...], ...]
    raw_by_step: tuple[tuple[int, ...], ...]

    def __post_init__(self) -> None:
        named, numbered = self.sizes, [len(raw) for raw in self.raw_by_step]
        if named != numbered:
            raise ValueError(
                f"every class needs a name and a raw label, step by step; got {named} names and"
                f" {numbered} raw labels"
            )

    @classmethod
    def of(cls, names: Iterable[Iterable[str]], raw: Iterable[Iterable[int]]) -> "ClassTable":
        """Builds the table from lists, one for each step."""
        return cls(tuple(map(tuple, names)), tuple(map(tuple, raw)))

    @property
    def names(self) -> tuple[str, ...]:
        """Name of each output."""
        return tuple(itertools.chain.from_iterable(self.names_by_step))

    @property
    def raw(self) -> tuple[int, ...]:
        """Raw label of each output."""
        return tuple(itertools.chain.from_iterable(self.raw_by_step))

    @property
    def foreground(self) -> tuple[int, ...]:
        """Raw labels of all outputs but the background."""
        return self.raw[1:]

    @property
    def sizes(self) -> list[int]:
        """Number of outputs that each step adds."""
        return [len(names) for names in self.names_by_step]

    @property
    def step_of(self) -> list[int]:
        """Index of the step that adds each output."""
        return [step for step, size in enumerate(self.sizes) for _ in range(size)]

    @property
    def old(self) -> "ClassTable":
        """The classes of all steps but the last."""
        return ClassTable(self.names_by_step[:-1], self.raw_by_step[:-1])

    @property
    def new(self) -> range:
        """Outputs that the last step adds."""
        total = sum(self.sizes)
        return range(total - self.sizes[-1], total)

    def label_table(
        self, visible: Sequence[int], void: Void, ignored: Sequence[int] = ()
    ) -> NDArray[np.uint8]:
        """Returns the label of each raw label, of shape (256,).

        >>> table = ClassTable.of([["background", "cat", "dog"], ["sheep"]], [[0, 8, 12], [17]])
        >>> table.label_table(visible=[17], void="ignore")[[0, 8, 17, 255]].tolist()
        [0, 0, 3, 255]

        Args:
            visible: Raw labels that become their output; all others become background.
            void: Meaning of raw 255.
            ignored: Raw labels with the meaning of raw 255.

        Raises:
            ValueError: A visible raw label belongs to no output.
        """
        table = np.full(256, BACKGROUND, np.uint8)
        for raw in visible:
            table[raw] = self.raw.index(raw)
        table[[*ignored, IGNORE]] = IGNORE if void == "ignore" else BACKGROUND
        return table

    def as_file(self) -> dict[str, list[list[str]] | list[list[int]]]:
        """Returns the entries `classes` and `raw` that files hold."""
        return {
            "classes": [list(names) for names in self.names_by_step],
            "raw": [list(raw) for raw in self.raw_by_step],
        }


def with_class_table(content: object) -> object:
    """Puts the entries `classes` and `raw` of a file's content together for a `ClassTable`."""
    if not isinstance(content, Mapping):
        return content
    keys = {"classes": "names_by_step", "raw": "raw_by_step"}
    table = {keys[key]: content[key] for key in keys if key in content}
    return {key: value for key, value in content.items() if key not in keys} | {"classes": table}
