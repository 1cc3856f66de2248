"""COCO's JSON: outlines and run lengths of instances, drawn into one label image."""

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from cssegcore.core.errors import InputError
from cssegcore.data.importing.regions import decode_rle, fill_polygon
from cssegcore.data.importing.source import (
    ImportedImage,
    ImportSource,
    check_source,
    image_name,
    image_shape,
    number_classes,
    read_tool_json,
)

Region = tuple[Any, int]
"""A segmentation as the file has it, and its label."""


def read_coco(path: Path, photographs: Path | None = None) -> ImportSource:
    """Reads one file of annotations.

    Regions are drawn in the file's order, so a later one lies over an earlier one; crowds are drawn
    like all others. Boxes without an outline, and categories that no region has, are left out.

    Args:
        path: The JSON.
        photographs: The folder that its `file_name`s are relative to; None: that of the file.

    Raises:
        InputError: It is no such file, or a photograph is missing.
    """
    content = read_tool_json(path)
    try:
        return _source(content, path, photographs or path.parent)
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path} is no COCO JSON of instances: `images`, `annotations` and `categories` are"
            f" needed, each with its keys ({type(error).__name__}: {error})."
        ) from None


def _source(content: dict[str, Any], path: Path, folder: Path) -> ImportSource:
    called = _names(content["categories"], path)
    outlined = [one for one in content["annotations"] if one.get("segmentation")]
    if not outlined:
        raise InputError(f"{path} holds no outline (`segmentation`): boxes do not label pixels.")
    sizes = _sizes(content["images"], path)
    for one in outlined:
        _check_key(one, "category_id", "categories", called, path)
        _check_key(one, "image_id", "images", sizes, path)
    used = {one["category_id"] for one in outlined}
    classes, values = number_classes(name for key, name in sorted(called.items()) if key in used)
    regions: dict[Any, list[Region]] = defaultdict(list)
    for one in outlined:
        regions[one["image_id"]].append((one["segmentation"], values[called[one["category_id"]]]))
    images = [
        ImportedImage(
            image_name(entry["file_name"]),
            folder / entry["file_name"].replace("\\", "/"),
            _drawing(regions.get(entry["id"], []), sizes[entry["id"]], path, entry),
        )
        for entry in content["images"]
    ]
    notes = []
    if bare := sum(entry["id"] not in regions for entry in content["images"]):
        notes.append(f"{bare} images without a region are background throughout")
    if boxes := len(content["annotations"]) - len(outlined):
        notes.append(f"{boxes} annotations without an outline are left out")
    if unused := [name for key, name in called.items() if key not in used]:
        notes.append(f"categories without a region are left out: {', '.join(sorted(unused))}")
    return ImportSource(classes, check_source(images, path), tuple(notes))


def _names(categories: list[dict[str, Any]], path: Path) -> dict[Any, str]:
    """Returns the name of each category's id.

    Raises:
        InputError: An id is there twice, or a name is no text.
    """
    called: dict[Any, str] = {}
    for entry in categories:
        key, name = entry["id"], entry["name"]
        if key in called:
            raise InputError(
                f"{path}: two `categories` have the id {key!r}, {called[key]!r} and {name!r}: give"
                " each its own."
            )
        if not isinstance(name, str):
            raise InputError(
                f"{path}: the name of the category {key!r} is {name!r}: give it one in quotes."
            )
        called[key] = name
    return called


def _sizes(images: list[dict[str, Any]], path: Path) -> dict[Any, tuple[int, int]]:
    """Returns height and width of each image's id.

    Raises:
        InputError: An id is there twice, or a size is none.
    """
    sizes: dict[Any, tuple[int, int]] = {}
    for entry in images:
        key, file = entry["id"], entry["file_name"]
        if key in sizes:
            raise InputError(
                f"{path}: two `images` have the id {key!r}, one of them {file!r}: give each its"
                " own, or take the second away."
            )
        sizes[key] = image_shape(entry, ("height", "width"), f"{path}: the image {file!r}")
    return sizes


def _check_key(
    one: dict[str, Any], key: str, table: str, known: Mapping[Any, object], path: Path
) -> None:
    """Makes sure that what a region belongs to is there.

    Raises:
        InputError: It is not. The number 1 and the text "1" differ.
    """
    if (value := one[key]) not in known:
        alike = next((other for other in known if str(other) == str(value)), None)
        other = "" if alike is None else f", but {alike!r}: one is a number, the other text"
        raise InputError(
            f"{path}: `{table}` lacks the id {value!r}, which the annotation {one.get('id')!r} has"
            f" as `{key}`{other}: mend the ids, or take the annotation away."
        )


def _drawing(
    regions: list[Region], shape: tuple[int, int], path: Path, entry: dict[str, Any]
) -> Any:  # noqa: ANN401
    def draw() -> UInt8[np.ndarray, "h w"]:
        labels = np.zeros(shape, np.uint8)
        for region, value in regions:
            try:
                _paint(labels, region, value)
            except (ValueError, TypeError, LookupError, OverflowError) as error:
                raise InputError(
                    f"{path}: a region of {entry['file_name']} cannot be drawn ({error})."
                ) from None
        return labels

    return draw


def _paint(labels: UInt8[np.ndarray, "h w"], region: Any, value: int) -> None:  # noqa: ANN401
    if isinstance(region, dict):
        height, width = region["size"]
        if labels.shape != (height, width):
            raise ValueError(
                f"its mask has {width}x{height} pixels, the image {labels.shape[::-1]}"
            )
        labels[decode_rle(region["counts"], height, width)] = value
        return
    for ring in region:
        if len(ring) < 6 or len(ring) % 2:
            raise ValueError(f"an outline has {len(ring)} numbers, not three corners or more")
        fill_polygon(labels, np.reshape(np.asarray(ring, np.float64), (-1, 2)), value)
