"""The list of images that a step trains on, is monitored on or is tested on, as a file has it."""

import dataclasses
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cssegcore.core.class_table import ClassTable, Void, with_class_table
from cssegcore.core.config import parse
from cssegcore.core.errors import InputError
from cssegcore.core.files import SEAL, sealed, unsealed, write_text
from cssegcore.core.names import unfit
from cssegcore.core.types import IGNORE, TO_COME


@dataclasses.dataclass(frozen=True)
class ImageList:
    """The images of one step for one purpose, and the meaning of their labels there.

    Step 1 learns sheep. Its training list shows the annotation of sheep alone, so cats (raw label
    8), which step 0 learned, are background (0) in it, and sheep (raw label 17) are output 3:

    >>> classes = ClassTable.of([["background", "cat", "dog"], ["sheep"]], [[0, 8, 12], [17]])
    >>> train = ImageList("step1", 1, classes, visible=[17], images=[["2007_000032", "5f2a"]])
    >>> train.names
    ['2007_000032']
    >>> train.label_table()[[8, 17]].tolist()
    [0, 3]
    >>> dataclasses.replace(train, visible=[8, 12, 17]).label_table()[[8, 17]].tolist()
    [1, 3]

    Tests of steps that list their images cannot tell the classes to come apart, which nobody may
    know yet: their pixels count as one row more.

    >>> test = ImageList("step1", 1, classes, [8, 12, 17], [["2007_000032", "5f2a"]], later=[10])
    >>> test.label_table()[[10, 17]].tolist(), test.row_names[-1]
    ([4, 3], '(classes to come)')

    Attributes:
        step: Name of the step.
        index: Index of the step.
        classes: The network's outputs. A test list holds the classes of later steps as well: their
            pixels are counted apart.
        visible: Raw labels whose annotation may be read; all others read as background.
        images: Name and content digest of each image, so that a changed photograph or label
            changes the lists it stands in and nothing else.
        ignored: Raw labels with the meaning of raw 255. Their classes are learned in no step.
        later: Raw labels that are told apart from all others, as one class to come.
        void: Meaning of raw 255. It is a parameter of training and stands in no file: lists are
            read with `ignore`, and tests count with that.
    """

    step: str
    index: int
    classes: ClassTable
    visible: list[int]
    images: list[list[str]]
    ignored: list[int] = dataclasses.field(default_factory=list)
    later: list[int] = dataclasses.field(default_factory=list)
    void: Void = "ignore"

    def label_table(self) -> NDArray[np.uint8]:
        """Returns the label of each raw label, of shape (256,): a row's index, or 255."""
        table = self.classes.label_table(self.visible, self.void, self.ignored)
        table[self.later] = len(self.classes.names)
        return table

    @property
    def row_names(self) -> list[str]:
        """Names of the label values: the outputs, then the classes to come, if shown."""
        return [*self.classes.names, *[TO_COME] * bool(self.later)]

    @property
    def row_steps(self) -> list[int]:
        """Index of the step that adds each row; of classes to come, of the next one."""
        return [*self.classes.step_of, *[self.index + 1] * bool(self.later)]

    @property
    def names(self) -> list[str]:
        """Names of the images, in order."""
        return [name for name, _ in self.images]

    def write(self, path: Path) -> None:
        """Writes JSON with one image a line, so that a person and `diff` can read it."""
        place = {"step": self.step, "index": self.index}
        head = place | self.classes.as_file() | {"visible": self.visible}
        head |= {key: raw for key in ("ignored", "later") if (raw := getattr(self, key))}
        whole = sealed(head | {"images": self.images})
        head[SEAL] = whole[SEAL]
        lines = [f' "{k}": {json.dumps(v, ensure_ascii=False)}' for k, v in head.items()]
        images = ",\n  ".join(json.dumps(i, ensure_ascii=False) for i in self.images)
        write_text(path, "{\n" + ",\n".join(lines) + f',\n "images": [\n  {images}\n ]\n}}\n')

    @classmethod
    def read(cls, path: Path) -> "ImageList":
        """Reads a file of `write`.

        Raises:
            InputError: The file is missing or not such a list.
        """
        try:
            content = unsealed(json.loads(path.read_bytes()), path, "run `dvc repro -f split`")
            image_list = parse(cls, with_class_table(content), str(path))
        except FileNotFoundError:
            raise InputError(f"{path} does not exist: run `dvc repro split`.") from None
        except (ValueError, RecursionError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"{path} is not JSON ({error}): run `dvc repro -f split`.") from None
        image_list._check(path)
        return image_list

    def _check(self, path: Path) -> None:
        """Refuses a file that `write` did not write: its names become names of files."""
        raw = set(self.classes.raw)
        fits = raw <= {*range(IGNORE)} and raw.issuperset(self.visible)
        fits = fits and raw.isdisjoint(self.later) and {*range(IGNORE)}.issuperset(self.later)
        if not fits or any(len(image) != 2 or unfit(image[0]) for image in self.images):
            raise InputError(f"{path} is damaged: run `dvc repro -f split`.")
