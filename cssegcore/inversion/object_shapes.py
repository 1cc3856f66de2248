"""Masks of objects: the outlines that label maps are drawn with. No torch here.

Procedural blobs need no data. Transplanted masks are objects annotated for the step to come,
because images of the old classes are gone: their outlines are real but belong to other classes, and
an object that the image border cuts has a straight edge.
"""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Bool, Int, UInt8

from cssegcore.core.errors import InputError
from cssegcore.data.dataset import Dataset
from cssegcore.data.image_list import ImageList

LEAST_OBJECT = 64
"""Pixels of the smallest object that is transplanted."""

ObjectMask = Bool[np.ndarray, "_ _"]
Shapes = Callable[[int, np.random.Generator], ObjectMask]
"""Draws the mask of an object for label maps of a given side; it need not fit exactly."""


def procedural(size: int, rng: np.random.Generator) -> ObjectMask:
    """Draws a blob of radius r0 (1 + 0.15 cos 3t + 0.1 cos 5t), stretched and then turned.

    r0 is 0.18 to 0.31 of `size`, the side of a label map in pixels, so that the area is 10 to 31 %
    of the label map; the aspect ratio is 0.6 to 1.6.
    """
    radius = size * rng.uniform(0.18, 0.31)
    stretch = np.sqrt(rng.uniform(0.6, 1.6))
    phase, turn = rng.uniform(0, 2 * np.pi, 2)
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    u = (x * np.cos(turn) + y * np.sin(turn)) / stretch
    v = (y * np.cos(turn) - x * np.sin(turn)) * stretch
    t = np.arctan2(v, u) + phase
    return cropped(np.hypot(u, v) <= radius * (1 + 0.15 * np.cos(3 * t) + 0.1 * np.cos(5 * t)))


def transplanted(masks: Sequence[ObjectMask]) -> Shapes:
    """Returns shapes that draw one of the `masks`, scale it by 0.5 to 1.5 and may mirror it.

    Raises:
        ValueError: There is no mask, or an empty one.
    """
    if not masks:
        raise ValueError("`masks` must hold an object; without any, use `procedural` shapes")
    for place, mask in enumerate(masks):
        if not mask.any():
            raise ValueError(f"each of `masks` must hold an object, number {place} is empty")

    def shape(size: int, rng: np.random.Generator) -> ObjectMask:
        mask = scaled(masks[int(rng.integers(len(masks)))], rng.uniform(0.5, 1.5))
        return mask[:, ::-1] if rng.random() < 0.5 else mask

    return shape


def annotated_objects(dataset: Dataset, image_list: ImageList) -> list[ObjectMask]:
    """Returns the masks of all objects of the new classes in the list's images.

    Raises:
        InputError: No object has `LEAST_OBJECT` pixels or more.
    """
    table, new = image_list.label_table(), image_list.classes.new
    labels = (table[dataset.label(name)] for name in image_list.names)
    masks = [mask for one in labels for mask in components(one, new, LEAST_OBJECT)]
    if not masks:
        raise InputError(
            f"no object of {LEAST_OBJECT} pixels or more is annotated for {image_list.step},"
            " so there is none to transplant: set `method.replay.inversion.layouts` to"
            " procedural."
        )
    return masks


def components(
    labels: UInt8[np.ndarray, "h w"], classes: Sequence[int], least: int
) -> list[ObjectMask]:
    """Finds the connected objects of `classes`, each cropped to its bounding box.

    Pixels of one class that touch, also at a corner, are one object. Objects come in the order of
    their first pixels, row by row; those of fewer than `least` pixels are left out.
    """
    wanted = np.isin(labels, classes)
    first = _first_pixels(labels, wanted)
    roots, counts = np.unique(first[wanted], return_counts=True)
    return [cropped(wanted & (first == root)) for root in roots[counts >= least]]


def scaled(mask: ObjectMask, factor: float) -> ObjectMask:
    """Scales a mask by taking nearest pixels; an object thinner than the grid may vanish."""
    rows, columns = (
        ((np.arange(out) + 0.5) * n / out).astype(np.intp)
        for n, out in ((n, max(1, round(n * factor))) for n in mask.shape)
    )
    return mask[rows[:, None], columns]


def cropped(mask: ObjectMask) -> ObjectMask:
    """Crops a mask to the bounding box of its object."""
    rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
    return mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _first_pixels(
    labels: UInt8[np.ndarray, "h w"], wanted: Bool[np.ndarray, "h w"]
) -> Int[np.ndarray, "h w"]:
    """Returns, for each wanted pixel, the index of the first pixel of its object."""
    root = np.arange(labels.size)
    a, b = _touching(labels, wanted, root.reshape(labels.shape))
    while True:
        low, high = np.minimum(root[a], root[b]), np.maximum(root[a], root[b])
        apart = low < high
        if not apart.any():
            return root.reshape(labels.shape)
        a, b = a[apart], b[apart]
        # each root joins a lower one that it touches, so at least half of the roots go each time
        np.minimum.at(root, high[apart], low[apart])
        while not np.array_equal(root, root[root]):
            root = root[root]


def _touching(
    labels: UInt8[np.ndarray, "h w"],
    wanted: Bool[np.ndarray, "h w"],
    places: Int[np.ndarray, "h w"],
) -> tuple[Int[np.ndarray, " e"], Int[np.ndarray, " e"]]:
    """Lists pairs of neighbouring pixels (corners included) that are wanted and of one class."""
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
