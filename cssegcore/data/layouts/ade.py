"""ADE20K as the scene parsing benchmark lays it out: folders, and no lists."""

import dataclasses
from pathlib import Path
from typing import final

from cssegcore.core.errors import InputError
from cssegcore.data.layouts._base import Layout, Split

ARCHIVE = "ADEChallengeData2016"


@final
@dataclasses.dataclass(frozen=True)
class Ade(Layout):
    """`images/FOLDER/NAME.jpg` and `annotations/FOLDER/NAME.png`: training and validation.

    The benchmark publishes no test labels, so the field tests on `validation`. The field trains its
    0, void, as background; no label is 255.

    Attributes:
        folder: Folder of the two below the root: "" for the root itself, or the folder of the
            benchmark's archive, as in MiB and PLOP.
    """

    folder: str = ""

    def at(self, root: Path) -> Layout:
        unpacked = not self.folder and (root / ARCHIVE).is_dir()
        return dataclasses.replace(self, folder=ARCHIVE) if unpacked else self

    def names(self, root: Path, split: Split) -> list[str]:
        """Lists the photographs in the folder of a part, sorted as the field does.

        Raises:
            InputError: The folder is missing or holds none.
        """
        below = "training" if split == "train" else "validation"
        folder = root / self.folder / "images" / below
        try:
            photographs = [p for p in folder.iterdir() if p.suffix == ".jpg" and p.name[0] != "."]
        except OSError as error:
            raise InputError(
                f"the folder {folder} cannot be listed ({error.strerror}): check `dataset.root`."
            ) from None
        if not photographs:
            raise InputError(
                f"the folder {folder} holds no photograph (NAME.jpg): check `dataset.root`."
            )
        return [f"{below}/{name}" for name in sorted(path.stem for path in photographs)]

    def photograph(self, root: Path, name: str) -> Path:
        return root / self.folder / "images" / f"{name}.jpg"

    def label(self, root: Path, name: str) -> Path:
        return root / self.folder / "annotations" / f"{name}.png"
