"""Masks of class numbers: Pascal VOC's own folder (and CVAT's form of it), Roboflow's folders."""

import csv
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from cssegcore.core.errors import InputError
from cssegcore.core.files import read_text
from cssegcore.core.types import BACKGROUND, IGNORE
from cssegcore.data import images
from cssegcore.data.importing.colours import colour_mask, read_colour_table
from cssegcore.data.importing.source import (
    ImportedImage,
    ImportSource,
    check_background,
    check_source,
    number_classes,
    photograph_of,
    photographs_below,
    without_labels,
)
from cssegcore.data.layouts._base import SPLITS, Split, read_names

VOC_CLASSES = (
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
)
_TABLES = ("classes.txt", "class_names.txt")
"""Files with a class a line, background first; the second is that of `labelme2voc`."""
CLASS_FOLDER = "SegmentationClass"
MASK_LISTS = "ImageSets/Segmentation"
LABELMAP = "labelmap.txt"


def read_voc_folder(folder: Path, photographs: Path | None = None) -> ImportSource:
    """Reads `JPEGImages`, `SegmentationClass` and the lists in `ImageSets/Segmentation`.

    Values are the classes that `classes.txt` or `class_names.txt` names, background first; without
    both, VOC's twenty. With `labelmap.txt`, as CVAT writes, colours are the classes that it names.

    Args:
        folder: Folder that holds the three.
        photographs: Another folder of the photographs, which CVAT leaves out on wish.

    Raises:
        InputError: One of them is missing, or an image; two lists name one image; or the first
            line of the table of classes is not the background.
    """
    masks = photographs_below(folder / CLASS_FOLDER)
    pictures = folder / "JPEGImages" if photographs is None else photographs
    notes = []
    if (folder / LABELMAP).exists():
        classes, colours = read_colour_table(folder / LABELMAP)
        drawing = {name: colour_mask(path, colours) for name, path in masks.items()}
    else:
        own = next((folder / name for name in _TABLES if (folder / name).exists()), None)
        table = read_names(own) if own else ("background", *VOC_CLASSES)
        if own:
            check_background(table, own)
        else:
            notes.append(f"{folder} has no classes.txt: 1 to 20 are taken for Pascal VOC's classes")
        classes, numbers = number_classes(table[1:])
        values = {BACKGROUND: BACKGROUND, IGNORE: IGNORE}
        values |= {at: numbers[name] for at, name in enumerate(table[1:], 1)}
        drawing = {name: number_mask(path, values) for name, path in masks.items()}
    parts: dict[str, Split] = {}
    for part in SPLITS:
        if (path := folder / MASK_LISTS / f"{part}.txt").exists() and path.stat().st_size:
            named: dict[str, Split] = dict.fromkeys(read_names(path), part)
            if both := sorted(parts.keys() & named):
                raise InputError(
                    f"{path} names {both[0]!r}, which {parts[both[0]]}.txt names too: what is"
                    " trained on must not be tested on; take it off one of the lists."
                )
            parts |= named
    if lost := sorted(set(parts).difference(masks)):
        raise InputError(f"{folder / MASK_LISTS} names {lost[0]!r}, which {CLASS_FOLDER} lacks.")
    listed = sorted(parts) or sorted(masks)
    found = [
        ImportedImage(
            name,
            photograph_of(pictures, name) or pictures / f"{name}.jpg",
            drawing[name],
            parts.get(name),
        )
        for name in listed
    ]
    if rest := len(masks) - len(listed):
        notes.append(f"{rest} masks that no list names are left out")
    return ImportSource(classes, check_source(found, folder), tuple(notes))


def read_roboflow(folder: Path) -> ImportSource:
    """Reads Roboflow's semantic masks: `train`, `valid` and `test`, each with `_classes.csv`.

    A photograph NAME.jpg has the mask NAME_mask.png, whose values the table names.

    Raises:
        InputError: No such folder is there, or a file is missing or something else.
    """
    names: dict[str, None] = {}
    tables: dict[Split, dict[int, str]] = {}
    folders: dict[Split, Path] = {
        part: folder / ("valid" if part == "val" else part) for part in SPLITS
    }
    for part, place in folders.items():
        if place.is_dir():
            tables[part] = _values(place / "_classes.csv")
            names |= dict.fromkeys(tables[part].values())
    if not tables:
        raise InputError(f"{folder} holds no folder train, valid or test with `_classes.csv`.")
    classes, labels = number_classes(names)
    found, unlabelled = [], 0
    for part, table in tables.items():
        values = {value: labels[name] for value, name in table.items()}
        there = photographs_below(folders[part])
        for name, path in there.items():
            if name.endswith("_mask"):
                own = name.removesuffix("_mask")
                photograph = photograph_of(folders[part], own) or folders[part] / f"{own}.jpg"
                found.append(ImportedImage(own, photograph, number_mask(path, values), part))
            else:
                unlabelled += f"{name}_mask" not in there
    return ImportSource(classes, check_source(found, folder), without_labels(unlabelled, "mask"))


def _values(path: Path) -> dict[int, str]:
    """Reads the name of each pixel value."""
    try:
        rows = list(csv.reader(read_text(path).splitlines(), skipinitialspace=True))[1:]
        given = [(int(row[0]), row[1].strip()) for row in rows if row]
    except (OSError, ValueError, IndexError, csv.Error) as error:
        raise InputError(
            f"the table {path} cannot be read as `Pixel Value, Class` lines ({error})."
        ) from None
    values: dict[int, str] = {}
    for value, name in given:
        if value in values or not 0 <= value <= 255:
            raise InputError(
                f"the table {path} gives {name!r} the pixel value {value}, which is there already"
                " or not within 0 to 255: give each class its own."
            )
        values[value] = name
    return values


def number_mask(path: Path, values: Mapping[int, int]) -> Callable[[], UInt8[np.ndarray, "h w"]]:
    """Returns a function that turns a mask of numbers into labels.

    Args:
        path: A PNG of one channel.
        values: The label of each number.

    Raises:
        InputError: When called: it is no such PNG, or holds another number.
    """

    def draw() -> UInt8[np.ndarray, "h w"]:
        stored = images.labels(images.read(path, "mask"), path, "mask", "see the form's own export")
        if strange := set(np.unique(stored).tolist()).difference(values):
            raise InputError(
                f"mask {path} holds {min(strange)}, which no class has: it knows"
                f" {', '.join(map(str, sorted(values)))}."
            )
        table = np.zeros(256, np.uint8)
        table[list(values)] = list(values.values())
        return table[stored]

    return draw
