"""Imported photographs and labels written into the folder layout, checked before."""

import dataclasses
import io
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps

from cssegcore.core.errors import InputError
from cssegcore.core.files import replacing, write_text
from cssegcore.core.palette import save_labels
from cssegcore.core.types import IGNORE, Progress
from cssegcore.data import images
from cssegcore.data.importing.source import (
    ENDINGS,
    MOST_CLASSES,
    ImportedImage,
    ImportSource,
    check_background,
    photograph_of,
)
from cssegcore.data.layouts._base import SPLITS, Split, read_names

DrawnOver = Literal["stored", "shown"]
"""Whether labels lie over a photograph's pixels as stored, or turned as viewers show them."""

_SWAPS = range(5, 9)
"""EXIF orientations that exchange height and width."""


@dataclasses.dataclass(frozen=True)
class Imported:
    """Result of an import.

    Attributes:
        images: Number of imported images, also of an earlier import of the same.
        rewritten: Number of photographs that are no copies: turned, without a tag, or of another
            format.
        classes: All classes of the folder, background first.
        unlisted: Whether the folder has lists that do not name the images.
    """

    images: int
    rewritten: int
    classes: tuple[str, ...]
    unlisted: bool


def write_folder(
    source: ImportSource, root: Path, drawn_over: DrawnOver | None, progress: Progress
) -> Imported:
    """Writes `images/`, `labels/`, `classes.txt` and, if the source has parts, lists.

    Classes of a folder that is there keep their numbers, new ones follow. All is checked before
    anything is written; what stands there must be what would be written, so the same import goes on
    after an interruption.

    Args:
        source: Images and classes to write.
        root: The folder of the dataset.
        drawn_over: Pixels below the labels, for photographs whose orientation leaves it open.
        progress: Wraps an iterable of images (second argument: their number).

    Raises:
        InputError: An image is damaged, does not fit its labels, or its name is taken; the folder's
            first class is not the background; or lists would leave out images that are there.
    """
    classes, numbers = _numbers(source, root)
    _check_listless(root, source.images)
    rewritten = 0
    for image in progress(source.images, len(source.images)):
        files, as_it_was = _files(image, root, numbers, drawn_over)
        rewritten += not as_it_was
        for path, content in files.items():
            if path.exists() and path.read_bytes() != content:
                raise InputError(
                    f"{path} is there already, and is something else: import into another folder,"
                    " or rename the photograph."
                )
    _write_classes(root, classes)
    for image in progress(source.images, len(source.images)):
        for path, content in _files(image, root, numbers, drawn_over)[0].items():
            if not path.exists():
                with replacing(path, durable=False) as temporary:
                    temporary.write_bytes(content)
    return Imported(len(source.images), rewritten, classes, not _write_lists(root, source.images))


def _numbers(source: ImportSource, root: Path) -> tuple[tuple[str, ...], UInt8[np.ndarray, "256"]]:
    """Returns the folder's classes, old and new, and its label for each of the source's."""
    path = root / "classes.txt"
    before = tuple(read_names(path)) if path.exists() else source.classes[:1]
    check_background(before, path)
    classes = (*before, *(name for name in source.classes[1:] if name not in before))
    if len(classes) - 1 > MOST_CLASSES:
        raise InputError(
            f"{path} would have {len(classes) - 1} classes, and labels hold {MOST_CLASSES}."
        )
    numbers = np.full(256, IGNORE, np.uint8)
    numbers[: len(source.classes)] = [0, *(classes.index(name) for name in source.classes[1:])]
    return classes, numbers


def _files(
    image: ImportedImage,
    root: Path,
    numbers: UInt8[np.ndarray, "256"],
    drawn_over: DrawnOver | None,
) -> tuple[dict[Path, bytes], bool]:
    """Returns the files of photograph and label image, and whether the photograph is unchanged."""
    labels = image.draw()
    suffix, content, as_it_was = _photograph(image, labels.shape, drawn_over)
    there = photograph_of(root / "images", image.name)
    stored = io.BytesIO()
    save_labels(stored, numbers[labels])
    return {
        there or root / "images" / f"{image.name}{suffix}": content,
        root / "labels" / f"{image.name}.png": stored.getvalue(),
    }, as_it_was


def _photograph(
    image: ImportedImage, labelled: tuple[int, ...], drawn_over: DrawnOver | None
) -> tuple[str, bytes, bool]:
    """Returns ending and content of a photograph whose pixels lie below the labels.

    Raises:
        InputError: It is damaged, of another size than its labels, or a TIFF that is turned.
    """
    path = image.photograph
    content = images.read(path, "photograph")
    height, width = images.check_photograph(content, path, images.MORE_FORMATS, turn=True)
    with images.opened(content, path, "photograph", images.MORE_FORMATS) as opened:
        turned = images.orientation(opened, content)
        if opened.format == "TIFF" and turned != 1:  # Pillow turns it, and only it, when it decodes
            raise InputError(
                f"photograph {path} is a TIFF with the orientation {turned}, and which way its"
                " labels lie over it is not said: save it turned, without that tag, as PNG."
            )
        is_jpeg = opened.format in ("JPEG", "MPO")  # MPO: a phone's JPEG with pictures behind it
        plain = is_jpeg or opened.format == "PNG"
        shown = (width, height) if turned in _SWAPS else (height, width)
        fits = {"stored": (height, width) == labelled, "shown": shown == labelled}
        if not any(fits.values()):
            raise InputError(
                f"photograph {path} has {width}x{height} pixels, and its labels are for"
                f" {labelled[1]}x{labelled[0]}: they must be of one size."
            )
        if turned == 1 and plain:
            return (".jpg" if is_jpeg else ".png"), content, True
        over = _over(path, turned, fits, drawn_over)
        pixels = ImageOps.exif_transpose(opened) if over == "shown" else opened
        written = io.BytesIO()
        if is_jpeg:
            kept = pixels if pixels.mode in ("L", "RGB") else pixels.convert("RGB")
            kept.save(written, "JPEG", quality=95, subsampling=0, exif=b"")
        else:
            Image.fromarray(np.asarray(pixels.convert("RGB"))).save(written, "PNG")
        return (".jpg" if is_jpeg else ".png"), written.getvalue(), False


def _over(
    path: Path, turned: int, fits: dict[str, bool], drawn_over: DrawnOver | None
) -> DrawnOver:
    """Returns the pixels below the labels; `stored` if the photograph is not turned."""
    if turned == 1:
        return "stored"
    if all(fits.values()):
        if drawn_over is None:
            raise InputError(
                f"photograph {path} has the EXIF orientation {turned}, and its labels fit it turned"
                " as viewers show it and as it is stored: say which by --drawn-over shown or"
                " stored, as the tool does it that they were drawn with."
            )
        return drawn_over
    return "shown" if fits["shown"] else "stored"


def _write_classes(root: Path, classes: tuple[str, ...]) -> None:
    path = root / "classes.txt"
    if not path.exists() or tuple(read_names(path)) != classes:
        write_text(path, "".join(f"{name}\n" for name in classes))


def _lists(root: Path) -> dict[Split, Path]:
    return {part: root / f"{part}.txt" for part in SPLITS}


def _parts(found: list[ImportedImage]) -> dict[Split, list[str]]:
    """Returns the names of each part; nothing unless there are some to train and to test."""
    given: dict[Split, list[str]]
    given = {part: [i.name for i in found if i.part == part] for part in SPLITS}
    return given if given["train"] and (given["val"] or given["test"]) else {}


def _check_listless(root: Path, found: list[ImportedImage]) -> None:
    """Refuses the first lists of a folder whose images they would not name.

    Raises:
        InputError: There are such images. Without lists all of a folder belong to the dataset.
    """
    folder = root / "images"
    if not folder.is_dir() or not _parts(found) or any(p.exists() for p in _lists(root).values()):
        return
    paths = [path.relative_to(folder) for path in folder.rglob("*")]
    there = {p.with_suffix("").as_posix() for p in paths if p.suffix.lower() in ENDINGS}
    if others := sorted(there.difference(image.name for image in found)):
        raise InputError(
            f"{root} has no lists, so its {len(others)} other images ({others[0]}, …) belong to the"
            " dataset, and the parts of this import would make lists without them: write"
            f" {root / 'train.txt'} and {root / 'test.txt'} that name them, or import into another"
            " folder."
        )


def _write_lists(root: Path, found: list[ImportedImage]) -> bool:
    """Names the images of each part in its list.

    Returns whether every image is in one, or there are none.
    """
    paths = _lists(root)
    if given := _parts(found):
        for part, names in given.items():
            before = read_names(paths[part]) if paths[part].exists() else []
            if new := [name for name in names if name not in before]:
                write_text(paths[part], "".join(f"{name}\n" for name in [*before, *new]))
        return all(image.part for image in found)
    return not any(path.exists() for path in paths.values())
