"""Layouts: label maps that tell an inversion which class to draw where.

Objects are drawn into background: asked for a frame full of one class, a network shows nothing that
another one learns from. Outlines are procedural by default and need no data. Transplanted ones have
the outlines of real objects, taken from the labels of the step at hand because the old images are
gone; they belong to the wrong classes, and where an image's rim cut them they are straight.
"""

import itertools
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Bool, Int, UInt8

from cssegcore.core.types import BACKGROUND, IGNORE

SECONDARY_CHANCE = 0.35
"""Of each of two places for a class beside the primary."""
PRIMARY_SHARE = 0.1, 0.3
"""Least and most of the image that the primary covers."""
SECONDARY_SHARE = 0.02, 0.075
"""The same of each other object: with the primary's, the image's foreground is 10 to 45 %."""
SMALLEST = 16
"""Pixels on a side, below which shares of an image are too coarse to keep."""
TRIES = 16

Shapes = Callable[[int, np.random.Generator], Bool[np.ndarray, "_ _"]]
"""Draws an object's mask for a layout of some size; one too large or too small is scaled."""


def draw_label_maps(
    primaries: Sequence[int],
    known: Sequence[int],
    size: int,
    shapes: Shapes,
    rng: np.random.Generator,
) -> UInt8[np.ndarray, "n s s"]:
    """Draws a layout for each primary class, with up to two further classes of those `known`.

    Objects keep a `margin` to the rim, since jitter rolls images around it. None covers one drawn
    before it, the primary least of all; one that could not be placed at least half in sight is left
    out. A shape too thin for its share of the image is drawn anew and at last taken from
    `procedural`.

    Args:
        primaries: One class for each layout, as network outputs.
        known: What further classes are drawn from, evenly, each at most once in a layout.
        size: Of a side.
        shapes: `procedural`, or what `transplanted` returns.
        rng: Decides everything: the same state gives the same layouts.

    Raises:
        ValueError: `size` is too small, or a class is none that a network tells from background.
    """
    if size < SMALLEST:
        raise ValueError(f"`size` must be at least {SMALLEST}, got {size}")
    for label in (*primaries, *known):
        if not BACKGROUND < label < IGNORE:
            raise ValueError(
                f"classes to draw must lie in [{BACKGROUND + 1}, {IGNORE - 1}], got {label}"
            )
    layouts = np.full((len(primaries), size, size), BACKGROUND, np.uint8)
    for layout, primary in zip(layouts, primaries, strict=True):
        _place(layout, primary, _fitted(shapes, size, PRIMARY_SHARE, rng), rng)
        others = sorted({*known} - {primary})
        count = min(rng.binomial(2, SECONDARY_CHANCE), len(others))
        for other in rng.choice(others, count, replace=False):
            _place(layout, int(other), _fitted(shapes, size, SECONDARY_SHARE, rng), rng)
    return layouts


def margin(size: int) -> int:
    """Returns how far objects stay from the rim: an eighth of the side, rounded up."""
    return -(-size // 8)


def procedural(size: int, rng: np.random.Generator) -> Bool[np.ndarray, "_ _"]:
    """Draws a blob of radius r0 (1 + 0.15 cos 3t + 0.1 cos 5t), stretched and then turned.

    r0 is 0.18 to 0.31 of the side, so that the area is 10 to 31 % of the layout; the aspect is 0.6
    to 1.6.
    """
    radius = size * rng.uniform(0.18, 0.31)
    stretch = np.sqrt(rng.uniform(0.6, 1.6))
    phase, turn = rng.uniform(0, 2 * np.pi, 2)
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    u = (x * np.cos(turn) + y * np.sin(turn)) / stretch
    v = (y * np.cos(turn) - x * np.sin(turn)) * stretch
    t = np.arctan2(v, u) + phase
    return _cropped(np.hypot(u, v) <= radius * (1 + 0.15 * np.cos(3 * t) + 0.1 * np.cos(5 * t)))


def transplanted(masks: Sequence[Bool[np.ndarray, "_ _"]]) -> Shapes:
    """Returns shapes that are any of the `masks`, scaled by 0.5 to 1.5 and at random mirrored.

    Raises:
        ValueError: There is no mask, or an empty one.
    """
    if not masks:
        raise ValueError("`masks` must hold an object; without any, use `procedural` shapes")
    for place, mask in enumerate(masks):
        if not mask.any():
            raise ValueError(f"each of `masks` must hold an object, number {place} is empty")

    def shape(size: int, rng: np.random.Generator) -> Bool[np.ndarray, "_ _"]:
        mask = _scaled(masks[int(rng.integers(len(masks)))], rng.uniform(0.5, 1.5))
        return mask[:, ::-1] if rng.random() < 0.5 else mask

    return shape


def components(
    labels: UInt8[np.ndarray, "h w"], classes: Sequence[int], least: int
) -> list[Bool[np.ndarray, "_ _"]]:
    """Finds the connected objects of `classes`, each cropped to its bounding box.

    Pixels of one class that touch, also at a corner, are one object. Objects come in the order of
    their first pixels, row by row; those of fewer than `least` pixels are left out.
    """
    wanted = np.isin(labels, classes)
    first = _first_pixels(labels, wanted)
    roots, counts = np.unique(first[wanted], return_counts=True)
    return [_cropped(wanted & (first == root)) for root in roots[counts >= least]]


def _first_pixels(
    labels: UInt8[np.ndarray, "h w"], wanted: Bool[np.ndarray, "h w"]
) -> Int[np.ndarray, "h w"]:
    """Gives every wanted pixel the number of the first pixel of its object."""
    root = np.arange(labels.size)
    a, b = _touching(labels, wanted, root.reshape(labels.shape))
    while True:
        low, high = np.minimum(root[a], root[b]), np.maximum(root[a], root[b])
        apart = low < high
        if not apart.any():
            return root.reshape(labels.shape)
        a, b = a[apart], b[apart]
        # each root hangs itself on a lower one it touches: half of them or more are gone each time
        np.minimum.at(root, high[apart], low[apart])
        while not np.array_equal(root, root[root]):
            root = root[root]


def _touching(
    labels: UInt8[np.ndarray, "h w"],
    wanted: Bool[np.ndarray, "h w"],
    places: Int[np.ndarray, "h w"],
) -> tuple[Int[np.ndarray, " e"], Int[np.ndarray, " e"]]:
    """Lists the pairs of neighbours, corners included, that are wanted and of one class."""
    every, tail, head = slice(None), slice(1, None), slice(None, -1)
    pairs = [
        ((every, head), (every, tail)),
        ((head, every), (tail, every)),
        ((head, head), (tail, tail)),
        ((head, tail), (tail, head)),
    ]
    one, other = [], []
    for here, there in pairs:
        same = wanted[here] & (labels[here] == labels[there])
        one.append(places[here][same])
        other.append(places[there][same])
    return np.concatenate(one), np.concatenate(other)


def _fitted(
    shapes: Shapes, size: int, share: tuple[float, float], rng: np.random.Generator
) -> Bool[np.ndarray, "_ _"]:
    """Draws a mask that fits between the margins and covers a share of the layout within bounds.

    Blobs can always be scaled to that, so it ends.
    """
    least, most = (bound * size**2 for bound in share)
    room = size - 2 * margin(size)
    sources = itertools.chain(itertools.repeat(shapes, TRIES), itertools.repeat(procedural))
    while True:
        mask = next(sources)(size, rng)
        area = max(mask.sum(), 1)
        # not scaled to the nearest bound: small objects would all come out equal
        factor = 1.0 if least <= area <= most else np.sqrt(rng.uniform(least, most) / area)
        mask = _scaled(mask, min(factor, room / max(mask.shape)))
        if least <= mask.sum() <= most:
            return mask


def _place(
    layout: UInt8[np.ndarray, "s s"],
    label: int,
    mask: Bool[np.ndarray, "_ _"],
    rng: np.random.Generator,
) -> None:
    least = margin(len(layout))
    for _ in range(TRIES):
        top, left = (rng.integers(least, len(layout) - least - n + 1) for n in mask.shape)
        window = layout[top : top + mask.shape[0], left : left + mask.shape[1]]
        free = mask & (window == BACKGROUND)
        if 2 * free.sum() >= mask.sum():
            window[free] = label
            return


def _scaled(mask: Bool[np.ndarray, "_ _"], factor: float) -> Bool[np.ndarray, "_ _"]:
    """Takes the nearest pixels; an object thinner than the grid may vanish."""
    rows, columns = (
        ((np.arange(out) + 0.5) * n / out).astype(np.intp)
        for n, out in ((n, max(1, round(n * factor))) for n in mask.shape)
    )
    return mask[rows[:, None], columns]


def _cropped(mask: Bool[np.ndarray, "_ _"]) -> Bool[np.ndarray, "_ _"]:
    rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
    return mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
