"""One's own images: two folders, and lists where one wants them."""

import collections
import dataclasses
import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import final

from cssegcore.core.errors import InputError
from cssegcore.data.layouts._base import PHOTOGRAPH_SUFFIXES, SPLITS, Layout, Split, read_names

LABEL_SUFFIXES = (".png", ".PNG")
SUFFIXES = (*PHOTOGRAPH_SUFFIXES, *(suffix.upper() for suffix in PHOTOGRAPH_SUFFIXES))


@final
@dataclasses.dataclass(frozen=True)
class Folder(Layout):
    """`images/NAME.{jpg,jpeg,png}`, `labels/NAME.png` (0 background, 1..n classes, 255 void).

    Endings may be in capitals.

    Both may have folders of their own: `images/june/a.jpg` and `labels/june/a.png` are `june/a`.

    `train.txt` and one of `val.txt` and `test.txt`, or both, name the images of each part; of the
    last two, one that is missing is like the other. Without lists, an image's part follows from
    its name alone (`drawn_part`), so that images that come later move no other.
    """

    def names(self, root: Path, split: Split) -> list[str]:
        """Lists the images of a part.

        Raises:
            InputError: A list is missing, empty or repeats a name; a label image has no photograph
                or a name two; or there are too few images to split.
        """
        photographs = _photographs(root / "images")
        labels = set(_labels(root / "labels"))
        if lost := sorted(labels.difference(photographs)):
            raise InputError(
                f"the label image {root / 'labels' / lost[0]}.png has no photograph: put"
                f" {lost[0]}.jpg or {lost[0]}.png into {root / 'images'}, or remove it."
            )
        if not self.draws_parts(root):
            other: Split = "test" if split == "val" else "val"
            given = split == "train" or (root / f"{split}.txt").exists()
            return read_names(root / f"{split if given else other}.txt")
        return _share(root, photographs, split)

    def draws_parts(self, root: Path) -> bool:
        return not any((root / f"{listed}.txt").exists() for listed in SPLITS)

    def photograph(self, root: Path, name: str) -> Path:
        places = [root / "images" / f"{name}{suffix}" for suffix in SUFFIXES]
        return next((place for place in places if place.exists()), places[0])

    def label(self, root: Path, name: str) -> Path:
        places = [root / "labels" / f"{name}{suffix}" for suffix in LABEL_SUFFIXES]
        return next((place for place in places if place.exists()), places[0])


def _names(folder: Path, suffixes: tuple[str, ...]) -> list[str]:
    """Lists the names of the files in a folder without hidden ones, which begin with a dot."""

    def refuse(error: OSError) -> None:
        raise InputError(
            f"the folder {error.filename} cannot be listed ({error.strerror}): check"
            " `dataset.root`."
        )

    found = []
    for place, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if name[0] != "."]
        paths = (Path(place, name).relative_to(folder) for name in files if name[0] != ".")
        found += [path.with_suffix("").as_posix() for path in paths if path.suffix in suffixes]
    if not found:
        raise InputError(f"the folder {folder} holds no image (NAME{suffixes[0]}, …): put some in.")
    return found


def _labels(folder: Path) -> list[str]:
    """Lists the names of label images; a name has one."""
    counts = collections.Counter(_names(folder, LABEL_SUFFIXES))
    if twice := sorted(name for name, count in counts.items() if count > 1):
        raise InputError(f"the folder {folder} holds two label images {twice[0]!r}: remove one.")
    return list(counts)


def _photographs(folder: Path) -> list[str]:
    """Lists the names of photographs, sorted."""
    counts = collections.Counter(_names(folder, SUFFIXES))
    twice = [name for name, count in sorted(counts.items()) if count > 1]
    if twice:
        raise InputError(
            f"the folder {folder} holds two photographs of the name {twice[0]!r}: rename one."
        )
    return sorted(counts)


def drawn_part(name: str) -> Split:
    """Returns the part that an image's name draws: of ten, one is tested on and one is monitored.

    The first eight bytes of the name's SHA-256 are a number; in its lowest tenth stands `test`, in
    the next `val`.
    """
    tenth = _number(name) * 10 >> 64
    return "test" if tenth == 0 else "val" if tenth == 1 else "train"


def by_digest(names: Iterable[str]) -> list[str]:
    """Puts names in the order in which they draw their parts: tests first, training last."""
    return sorted(names, key=_number)


def _number(name: str) -> int:
    return int.from_bytes(hashlib.sha256(os.fsencode(name)).digest()[:8])


def _share(root: Path, names: list[str], split: Split) -> list[str]:
    """Returns a part's share of `names`, in their order.

    Raises:
        InputError: There is nothing to train or to test on.
    """
    drawn = {part: [name for name in names if drawn_part(name) == part] for part in SPLITS}
    for part in ("train", "test"):
        if not drawn[part]:
            raise InputError(
                f"the dataset {root} has {len(names)} images, too few to draw some to"
                f" {part} by their names: add some, or lists train.txt and test.txt."
            )
    return drawn[split]
