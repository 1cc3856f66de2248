"""Masks whose colours stand for classes, and tables of colours and classes."""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import UInt8

from cssegcore.core.errors import InputError
from cssegcore.core.files import read_text
from cssegcore.core.types import IGNORE
from cssegcore.data import images
from cssegcore.data.importing.source import (
    ImportedImage,
    ImportSource,
    check_source,
    number_classes,
    photograph_of,
    photographs_below,
    without_labels,
)

OtherColours = Literal["refuse", "void"]
"""Treatment of pixels whose colour is not in the table."""

MaskColour = tuple[int, int, int]

_LINE = re.compile(
    r"(?P<name>[^:,;\t]+)[:,;\t]\s*(?:#(?P<hex>[0-9a-fA-F]{6})"
    r"|(?P<r>\d{1,3})[,;\t ]+(?P<g>\d{1,3})[,;\t ]+(?P<b>\d{1,3}))(?P<rest>\s*:.*)?"
)


def read_colour_masks(
    masks: Path, photographs: Path, table: Path, ending: str = "", others: OtherColours = "refuse"
) -> ImportSource:
    """Reads PNG masks by a table of colours.

    Args:
        masks: Folder of the masks, with the same subfolders as that of the photographs.
        photographs: Folder of the photographs.
        table: A class a line; see `read_colour_table`.
        ending: Ending of a mask's name after its photograph's name, such as `_mask`.
        others: Treatment of pixels whose colour is not in the table.

    Raises:
        InputError: The table cannot be read, or a mask or photograph is missing.
    """
    classes, colours = read_colour_table(table)
    found = {}
    for name, path in photographs_below(masks).items():
        if not ending or name.endswith(ending):
            found[name.removesuffix(ending) if ending else name] = path
    pictures = [
        ImportedImage(
            name,
            photograph_of(photographs, name) or photographs / f"{name}.jpg",
            colour_mask(path, colours, others),
        )
        for name, path in found.items()
    ]
    unlabelled = set(photographs_below(photographs)).difference(found)
    if masks == photographs:
        unlabelled = {name for name in unlabelled if not name.endswith(ending or "\0")}
    notes = without_labels(len(unlabelled), "mask")
    return ImportSource(classes, check_source(pictures, masks), notes)


def read_colour_table(path: Path) -> tuple[tuple[str, ...], dict[MaskColour, int]]:
    """Reads a table of colours: a class a line, as `cat,128,0,0`, `cat,#800000` or CVAT's.

    CVAT's `labelmap.txt` has `cat:128,0,0:parts:actions`. Lines that begin with `#` are comments;
    a first line without numbers is a heading. Black is background if no line names it.

    Returns:
        Names, background first, and the label of each colour.

    Raises:
        InputError: A line is something else, or a colour or name stands there twice.
    """
    try:
        lines = [line.strip() for line in read_text(path).split("\n")]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"the table {path} cannot be read ({error}).") from None
    named: dict[str, MaskColour] = {}
    kept = [line for line in lines if line and not line.startswith("#")]
    for at, line in enumerate(kept):
        found = _LINE.fullmatch(line)
        if not found:
            if at == 0 and not any(sign.isdigit() for sign in line):
                continue
            raise InputError(f"the table {path}: {line[:80]!r} is no `name,red,green,blue`.")
        name, colour = found["name"].strip(), _colour(found)
        if max(colour) > 255 or name in named or colour in named.values():
            raise InputError(
                f"the table {path}: {line[:80]!r} has a name or colour that is there already, or a"
                " number above 255."
            )
        named[name] = colour
    classes, values = number_classes(named)
    colours = {colour: values[name] for name, colour in named.items()}
    return classes, {(0, 0, 0): 0, **colours}


def _colour(found: re.Match[str]) -> MaskColour:
    if digits := found["hex"]:
        r, g, b = bytes.fromhex(digits)
    else:
        r, g, b = (int(found[key]) for key in "rgb")
    return r, g, b


def colour_mask(
    path: Path, colours: Mapping[MaskColour, int], others: OtherColours = "refuse"
) -> Callable[[], UInt8[np.ndarray, "h w"]]:
    """Returns a function that turns a mask into labels.

    Raises:
        InputError: When called: it is no whole PNG, or has a colour that the table lacks.
    """

    def draw() -> UInt8[np.ndarray, "h w"]:
        pixels = _pixels(path)
        codes = pixels.astype(np.int32) @ np.array([1 << 16, 1 << 8, 1])
        present, places = np.unique(codes, return_inverse=True)
        known = {(r << 16) + (g << 8) + b: value for (r, g, b), value in colours.items()}
        if others == "refuse" and (
            strange := [code for code in present.tolist() if code not in known]
        ):
            _refuse(path, strange, codes)
        table = np.array([known.get(int(code), IGNORE) for code in present], np.uint8)
        return table[places.reshape(codes.shape)]

    return draw


def _pixels(path: Path) -> UInt8[np.ndarray, "h w 3"]:
    what = "mask"
    content = images.read(path, what)
    with images.opened(content, path, what, images.LABELS) as image:
        images.check_colours(image, content, path)
        images.check_orientation(image, content, path, what)
        if "A" in image.getbands() or "transparency" in image.info:
            see_through = np.asarray(image.convert("RGBA"))[..., 3] < 255
            if see_through.any():
                raise InputError(
                    f"mask {path} has {see_through.sum()} pixels that are transparent, and what"
                    " they are is not said: save it without transparency."
                )
        return np.asarray(image.convert("RGB"))


def _refuse(path: Path, strange: Sequence[int], codes: np.ndarray) -> None:
    code = strange[0]
    row, column = (int(place[0]) for place in np.nonzero(codes == code))
    raise InputError(
        f"mask {path} has {len(strange)} colours that the table lacks, the first"
        f" ({code >> 16}, {code >> 8 & 255}, {code & 255}) in {int((codes == code).sum())} pixels,"
        f" as at x {column}, y {row}: add it to the table, or make such pixels void with"
        " --other-colours void."
    )
