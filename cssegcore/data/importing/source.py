"""The common form of all imported labels, and the names that mean no class."""

import dataclasses
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Final

import numpy as np
from jaxtyping import UInt8

from cssegcore.core.errors import InputError
from cssegcore.core.files import read_text
from cssegcore.core.names import BACKGROUND_NAMES, unfit, unfit_class
from cssegcore.core.types import BACKGROUND, IGNORE
from cssegcore.data.images import most_pixels
from cssegcore.data.layouts._base import Split

VOID_NAMES: Final = ("void", "ignore", "__ignore__", "_ignore_", "unlabeled", "unlabelled")
MOST_CLASSES: Final = 254
"""Classes that a label image can number, the background left out."""

ENDINGS: Final = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")


@dataclasses.dataclass(frozen=True)
class ImportedImage:
    """A photograph and its labels.

    Attributes:
        name: Name in the dataset: a path without an ending.
        photograph: File of the photograph.
        draw: Function that makes the labels: indices of `ImportSource.classes`, 255 void.
        part: The part that the source gives it to, if any.
    """

    name: str
    photograph: Path
    draw: Callable[[], UInt8[np.ndarray, "h w"]]
    part: Split | None = None


@dataclasses.dataclass(frozen=True)
class ImportSource:
    """The images and classes of an import.

    Attributes:
        classes: Names of the labels, background first.
        images: The images, each with a name of its own.
        notes: One line for each kind of omitted content.
    """

    classes: tuple[str, ...]
    images: list[ImportedImage]
    notes: tuple[str, ...] = ()


def number_classes(names: Iterable[str]) -> tuple[tuple[str, ...], dict[str, int]]:
    """Numbers names in their order from 1; names of background and void get 0 and 255.

    >>> number_classes(["cat", "void", "background", "dog"])
    (('background', 'cat', 'dog'), {'cat': 1, 'void': 255, 'background': 0, 'dog': 2})

    Raises:
        InputError: There is no class, or too many, or one is given twice or has a name that a
            dataset cannot have (see `open_dataset`).
    """
    classes, values = ["background"], {}
    for name in names:
        if unfit_class(name):
            raise InputError(
                f"the labels name a class {name[:80]!r}: give it a name without control characters,"
                " and without spaces around it."
            )
        if name in values:
            raise InputError(f"the class {name!r} is named twice: give each its own name.")
        if name.lower() in BACKGROUND_NAMES:
            values[name] = BACKGROUND
        elif name.lower() in VOID_NAMES:
            values[name] = IGNORE
        else:
            values[name] = len(classes)
            classes.append(name)
    if not 1 <= len(classes) - 1 <= MOST_CLASSES:
        raise InputError(
            f"there are {len(classes) - 1} classes: label images number 1 to {MOST_CLASSES}."
        )
    return tuple(classes), values


def check_background(classes: Sequence[str], path: Path) -> None:
    """Makes sure that the first name of a class table means the background.

    Raises:
        InputError: It does not, so that label 0 would be both.
    """
    if classes[0].lower() not in BACKGROUND_NAMES:
        raise InputError(
            f"the first line of {path} is {classes[0]!r}, and label 0 is the background: if 0 is"
            " the background there too, call that line `background`; if not, import into another"
            " folder."
        )


def image_name(path: str) -> str:
    """Returns the name of an image whose photograph has that path below its folder.

    Raises:
        InputError: It leads elsewhere, or cannot be printed.
    """
    posix = PurePosixPath(path.replace("\\", "/").removeprefix("./"))
    if reason := unfit(str(posix)):
        raise InputError(f"the photograph {path!r} cannot be named so: {reason}.")
    return str(posix.with_suffix(""))


def image_shape(content: Mapping[str, Any], keys: tuple[str, str], where: str) -> tuple[int, int]:
    """Returns height and width as a tool's file tells them, under these keys.

    Args:
        content: Keys and values of the image in the file.
        keys: Keys of height and width.
        where: File and image, named in errors.

    Raises:
        InputError: A side is no whole number above 0, or there are more pixels than are opened.
        KeyError: It does not tell them.
    """
    sides: list[int] = []
    for key in keys:
        try:
            side = int(content[key])
            whole = side > 0 and side == float(content[key])
        except (TypeError, ValueError, OverflowError):
            side, whole = 0, False
        if not whole:
            raise InputError(
                f"{where} has the `{key}` {content[key]!r}: give a whole number of pixels above 0."
            )
        sides.append(side)
    height, width = sides
    if height * width > most_pixels():
        raise InputError(
            f"{where} has {width}x{height} pixels by its file, and at most {most_pixels()} are"
            f" opened: mend `{keys[0]}` and `{keys[1]}`."
        )
    return height, width


def photographs_below(folder: Path) -> dict[str, Path]:
    """Returns the photographs of a folder and its subfolders by their names.

    Raises:
        InputError: There is none, two have one name, or a subfolder is a link.
    """
    check_links(folder)
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")) if folder.is_dir() else ():
        if path.suffix.lower() in ENDINGS and path.name[0] != ".":
            name = image_name(path.relative_to(folder).as_posix())
            if name in found:
                raise InputError(f"{found[name]} and {path} have one name: rename one.")
            found[name] = path
    if not found:
        raise InputError(f"the folder {folder} holds no photograph ({', '.join(ENDINGS)}).")
    return found


def without_labels(count: int, kind: str) -> tuple[str, ...]:
    """Returns the note on photographs that have no labels, if there are some."""
    return (f"{count} photographs without a {kind} are left out",) if count else ()


def check_links(folder: Path) -> None:
    """Refuses links to folders: a search goes past them, and their files would be left out.

    Raises:
        InputError: There is one.
    """
    for path in folder.rglob("*"):
        if path.is_symlink() and path.is_dir():
            raise InputError(
                f"{path} is a link to a folder, and nothing behind it is read: put a folder of"
                f" links to its files there (`rm {path} && cp -rs {path.resolve()} {path}`)."
            )


def photograph_of(folder: Path, name: str) -> Path | None:
    """Returns the photograph of a name in a folder, whatever its ending is."""
    places = (folder / f"{name}{end}" for low in ENDINGS for end in (low, low.upper()))
    return next((place for place in places if place.is_file()), None)


def check_source(images: Sequence[ImportedImage], where: Path) -> list[ImportedImage]:
    """Returns the images; their names differ, their photographs are there.

    Raises:
        InputError: They do not, or there is no image.
    """
    if not images:
        raise InputError(f"{where} holds no image with labels: check the path and the form.")
    names: dict[str, Path] = {}
    for image in images:
        if not image.photograph.is_file():
            raise InputError(
                f"there is no photograph {image.photograph}, to which {where} has labels: name its"
                " folder with --photographs."
            )
        if image.name in names:
            raise InputError(
                f"{names[image.name]} and {image.photograph} would both be {image.name!r}: rename"
                " one of them."
            )
        names[image.name] = image.photograph
    return list(images)


def read_tool_json(path: Path) -> Any:  # noqa: ANN401 - whatever it holds
    """Reads JSON that a tool wrote.

    Raises:
        InputError: It is not there, or is none.
    """
    try:
        return json.loads(read_text(path))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read as JSON ({error}): check the file.") from None
