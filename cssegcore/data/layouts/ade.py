"""ADE20K as the scene parsing benchmark lays it out: folders, and no lists."""

import dataclasses
from pathlib import Path
from typing import final

from cssegcore.data.layouts._base import Layout, Part
from cssegcore.errors import InputError


@final
@dataclasses.dataclass(frozen=True)
class Ade(Layout):
    """`images/FOLDER/NAME.jpg` and `annotations/FOLDER/NAME.png`: training and validation.

    The benchmark publishes no test labels, so the field tests on `validation`. Its 0, void, is
    what the field trains as background; no label is 255.
    """

    def names(self, root: Path, part: Part) -> list[str]:
        """Lists the photographs in the folder of a part, sorted as the field does.

        Raises:
            InputError: The folder is missing or holds none.
        """
        below = "training" if part == "train" else "validation"
        folder = root / "images" / below
        try:
            found = sorted(path.stem for path in folder.iterdir() if path.suffix == ".jpg")
        except OSError as error:
            raise InputError(
                f"the folder {folder} cannot be listed ({error.strerror}): check `dataset.root`."
            ) from None
        if not found:
            raise InputError(
                f"the folder {folder} holds no photograph (NAME.jpg): check `dataset.root`."
            )
        return [f"{below}/{name}" for name in found]

    def photograph(self, root: Path, name: str) -> Path:
        return root / "images" / f"{name}.jpg"

    def label(self, root: Path, name: str) -> Path:
        return root / "annotations" / f"{name}.png"
