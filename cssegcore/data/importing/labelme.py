"""Labelme: a JSON beside each photograph, whose shapes are drawn in the file's order."""

import base64
import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from cssegcore.core.errors import InputError
from cssegcore.data import images
from cssegcore.data.importing.regions import fill_polygon
from cssegcore.data.importing.source import (
    ENDINGS,
    ImportedImage,
    ImportSource,
    check_links,
    check_source,
    image_name,
    image_shape,
    number_classes,
    read_tool_json,
    without_labels,
)

CIRCLE = 64
"""Corners of the polygon that stands for a circle."""

WITHOUT_AREA = ("point", "points", "line", "linestrip")


def read_labelme(folder: Path, photographs: Path | None = None) -> ImportSource:
    """Reads the JSON files of a folder and its subfolders.

    Polygons, rectangles, circles and masks are drawn; points and lines, which have no area, are
    left out. Classes are numbered in the order of their names.

    Args:
        folder: Folder of the JSON files.
        photographs: Folder of the photographs, with the same subfolders; None reads each file's
            `imagePath`.

    Raises:
        InputError: A file is none of Labelme's, a photograph is missing, or a subfolder is a link.
    """
    check_links(folder)
    paths = [path for path in sorted(folder.rglob("*.json")) if path.name[0] != "."]
    pictures, shapes, left = [], {}, Counter()
    for path in paths:
        content = read_tool_json(path)
        try:
            size = image_shape(content, ("imageHeight", "imageWidth"), str(path))
            shown = str(content["imagePath"]).replace("\\", "/")
            each = [
                (_label(s, path), s.get("shape_type") or "polygon", s) for s in content["shapes"]
            ]
        except InputError:
            raise
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(
                f"{path} is no file of Labelme ({type(error).__name__}: {error})."
            ) from None
        left.update(kind for _, kind, _ in each if kind in WITHOUT_AREA)
        shapes[path] = [one for one in each if one[1] not in WITHOUT_AREA]
        name = image_name(path.relative_to(folder).as_posix())
        beside = (
            path.parent if photographs is None else photographs / path.parent.relative_to(folder)
        )
        pictures.append(
            (name, beside / (shown if photographs is None else Path(shown).name), size, path)
        )
    labels = sorted({label for each in shapes.values() for label, _, _ in each})
    if not labels:
        raise InputError(f"{folder} holds no JSON of Labelme with a shape: check the path.")
    classes, values = number_classes(labels)
    found = [
        ImportedImage(name, photograph, _shapes_of(shapes[path], values, size, path))
        for name, photograph, size, path in pictures
    ]
    notes = [
        f"{count} shapes without an area ({kind}) are left out" for kind, count in left.items()
    ]
    used = {photograph.resolve() for _, photograph, _, _ in pictures}
    there = (photographs or folder).rglob("*")
    unlabelled = sum(p.suffix.lower() in ENDINGS and p.resolve() not in used for p in there)
    notes += without_labels(unlabelled, "JSON")
    return ImportSource(classes, check_source(found, folder), tuple(notes))


def _label(shape: dict[str, Any], path: Path) -> str:
    if not isinstance(label := shape["label"], str):
        raise InputError(f"{path}: a shape has the `label` {label!r}: give it a name in quotes.")
    return label


def _shapes_of(
    shapes: list[tuple[str, str, dict[str, Any]]],
    values: dict[str, int],
    size: tuple[int, int],
    path: Path,
) -> Callable[[], UInt8[np.ndarray, "h w"]]:
    def draw() -> UInt8[np.ndarray, "h w"]:
        labels = np.zeros(size, np.uint8)
        for label, kind, shape in shapes:
            try:
                if kind == "mask":
                    _paint_mask(labels, shape, values[label], path)
                else:
                    _paint(labels, kind, shape, values[label])
            except InputError:
                raise
            except (ValueError, TypeError, LookupError, OverflowError) as error:
                raise InputError(
                    f"{path}: a {kind} of {label!r} cannot be drawn ({error})."
                ) from None
        return labels

    return draw


def _paint_mask(
    labels: UInt8[np.ndarray, "h w"], shape: dict[str, Any], value: int, path: Path
) -> None:
    """Lays a mask with its upper left corner at the first point; what lies outside is cut off."""
    left, top = (round(float(side)) for side in shape["points"][0])
    content = base64.b64decode(shape["mask"])
    with images.opened(content, path, "a mask in", images.LABELS) as image:
        inside = np.asarray(image.convert("L")) > 0
    inside = inside[max(0, -top) :, max(0, -left) :]
    part = labels[max(0, top) :, max(0, left) :][: inside.shape[0], : inside.shape[1]]
    part[inside[: part.shape[0], : part.shape[1]]] = value


def _paint(labels: UInt8[np.ndarray, "h w"], kind: str, shape: dict[str, Any], value: int) -> None:
    points = [(float(x), float(y)) for x, y in shape["points"]]
    if kind == "rectangle":
        (left, top), (right, bottom) = points[0], points[-1] if len(points) == 2 else points[2]
        points = [(left, top), (right, top), (right, bottom), (left, bottom)]
    elif kind == "circle":
        (x, y), edge = points
        radius = math.dist((x, y), edge)
        turns = (2 * math.pi * at / CIRCLE for at in range(CIRCLE))
        points = [(x + radius * math.cos(t), y + radius * math.sin(t)) for t in turns]
    elif kind not in ("polygon", "rotation", "oriented_rectangle"):
        raise ValueError("such shapes are not known")
    if len(points) < 3:
        raise ValueError(f"it has {len(points)} corners")
    fill_polygon(labels, np.asarray(points), value)
