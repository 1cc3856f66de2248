"""Outlines and run lengths made into pixels."""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Real, UInt8

FURTHEST = 2**31
"""Pixels from the corner of an image, beyond which no corner of a region lies."""


def fill_polygon(
    labels: UInt8[np.ndarray, "h w"], points: Real[np.ndarray, "n 2"], value: int
) -> None:
    """Gives `value` to the pixels whose centres lie inside a polygon (even-odd).

    Args:
        labels: Changed in place. Pixel (row, column) covers column to column + 1 along x.
        points: Corners (x, y), in pixels from the upper left corner of the image.
        value: The label.

    Raises:
        ValueError: A corner is no place: not a number, infinite, or further than any image goes.
    """
    if not (np.abs(points) < FURTHEST).all():
        raise ValueError("a corner is no place in an image")
    height, _width = labels.shape
    xs, ys = points.astype(np.float64).T
    next_xs, next_ys = np.roll(xs, -1), np.roll(ys, -1)
    top, bottom = math.ceil(ys.min() - 0.5), math.ceil(ys.max() - 0.5)
    for row in range(max(0, top), min(height, bottom)):
        y = row + 0.5
        cut = (ys <= y) != (next_ys <= y)
        slopes = (next_xs - xs)[cut] / (next_ys - ys)[cut]
        crossings = np.sort(xs[cut] + (y - ys[cut]) * slopes)
        for left, right in zip(crossings[::2], crossings[1::2], strict=True):
            labels[row, max(0, math.ceil(left - 0.5)) : max(0, math.ceil(right - 0.5))] = value


def decode_rle(
    counts: str | Sequence[int | float], height: int, width: int
) -> Bool[np.ndarray, "{height} {width}"]:
    """Decodes COCO's run lengths to a mask.

    Args:
        counts: Lengths of runs that are outside and inside by turns, down the columns; or the same
            as COCO's text, five bits a character.
        height: Height of the mask.
        width: Width of the mask.

    Raises:
        ValueError: The runs do not fill the mask.
    """
    pixels = height * width
    runs = _runs(counts) if isinstance(counts, str) else counts
    if strange := [run for run in runs if not 0 <= run <= pixels or run != int(run)]:
        raise ValueError(f"a run of {strange[0]} is no number of its {pixels} pixels")
    if (covered := int(sum(runs))) != pixels:
        raise ValueError(f"its runs cover {covered} pixels, not {pixels}")
    inside = np.arange(len(runs)) % 2 == 1
    return np.repeat(inside, np.asarray(runs, np.int64)).reshape(width, height).T


def _runs(text: str) -> list[int]:
    """Decodes COCO's text; from the fourth on, a run is told by its difference to the last but one.

    A character holds five bits of a number, the lowest first, and whether more follow; the last
    one's fifth bit is the sign.
    """
    runs: list[int] = []
    value = shift = 0
    for sign in text.encode():
        bits = sign - 48
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            if bits & 16:
                value -= 1 << shift
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    return runs
