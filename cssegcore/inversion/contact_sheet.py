"""A contact sheet of the generated images of each class, with their label maps and labels."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw

from cssegcore.core.files import replacing
from cssegcore.core.palette import palette
from cssegcore.core.types import IGNORE
from cssegcore.inversion.store import GeneratedImage

COLUMNS = 8
TILE_SIDE = 96
"""Pixels of an image on the sheet; smaller ones are enlarged."""
MARGIN, TITLE = 4, 14


def save_contact_sheet(path: Path, rows: Iterable[tuple[str, Sequence[GeneratedImage]]]) -> None:
    """Writes a PNG with three lines a class: images, label maps if there are any, labels.

    Args:
        path: The file.
        rows: Name and images of each class, one class at a time: only tiles are held of the others.
    """
    lines = [line for title, images in rows for line in _lines(title, images[:COLUMNS])]
    width = MARGIN + COLUMNS * (TILE_SIDE + MARGIN)
    height = sum(TITLE * bool(title) + TILE_SIDE + MARGIN for title, _ in lines) + MARGIN
    sheet = Image.new("RGB", (width, height), "white")
    pen, top = ImageDraw.Draw(sheet), MARGIN
    for title, tiles in lines:
        if title:
            pen.text((MARGIN, top), title, fill="black")
            top += TITLE
        for at, tile in enumerate(tiles):
            sheet.paste(tile, (MARGIN + at * (TILE_SIDE + MARGIN), top))
        top += TILE_SIDE + MARGIN
    with replacing(path) as temporary:
        sheet.save(temporary, format="PNG")


def _lines(title: str, images: Sequence[GeneratedImage]) -> list[tuple[str, list[Image.Image]]]:
    if not images:
        return []
    photographs = [_tile(one.image) for one in images]
    asked = [_tile(palette()[one.label_map]) for one in images if (one.label_map != IGNORE).any()]
    labels = [_tile(palette()[one.labels]) for one in images]
    below = [("", asked)] if asked else []
    return [(f"{title}: images, what was asked for, labels", photographs), *below, ("", labels)]


def _tile(image: UInt8[np.ndarray, "s s 3"]) -> Image.Image:
    return Image.fromarray(image).resize((TILE_SIDE, TILE_SIDE), Image.Resampling.NEAREST)
