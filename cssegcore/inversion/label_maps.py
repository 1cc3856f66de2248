"""Label maps: the class that an inversion must draw at each pixel, and the plan of a batch.

Objects are drawn into background: a network that is asked for an image full of one class shows
nothing that another network can learn from. No torch here.
"""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Int, UInt8

from cssegcore.core.ranges import at_least
from cssegcore.core.types import BACKGROUND, IGNORE
from cssegcore.inversion.object_shapes import ObjectMask, Shapes, procedural, scaled

SECONDARY_CHANCE = 0.35
"""Probability of each of the two possible further objects beside the primary class."""
PRIMARY_SHARE = 0.1, 0.3
"""Least and largest share of the image that the primary object covers."""
SECONDARY_SHARE = 0.02, 0.075
"""Least and largest share of each further object; all objects together cover 10 to 45 %."""
SMALLEST = 16
"""Least side in pixels; shares of a smaller image are too coarse to keep."""
TRIES = 16
"""Attempts to fit a mask or to place an object."""


@dataclasses.dataclass(frozen=True)
class InversionTargets:
    """Contents that a batch of images must show.

    Attributes:
        primaries: The class that each image is generated for, as network outputs.
        label_maps: The class of each pixel; 255 everywhere if only a class is asked for.
    """

    primaries: Int[np.ndarray, " n"]
    label_maps: UInt8[np.ndarray, "n s s"]


def draw_targets(
    primaries: Sequence[int],
    known: Sequence[int],
    size: int,
    shapes: Shapes | None,
    rng: np.random.Generator,
) -> InversionTargets:
    """Draws the targets of a batch: label maps, or bare classes if there are no `shapes`.

    Args and errors: see `draw_label_maps`.
    """
    if shapes is None:
        label_maps = np.full((len(primaries), size, size), IGNORE, np.uint8)
    else:
        label_maps = draw_label_maps(primaries, known, size, shapes, rng)
    return InversionTargets(np.array(primaries), label_maps)


def share_out(missing: Mapping[int, int], count: int) -> list[int]:
    """Assigns `count` images to classes, each to the class that misses most images by then."""
    left = dict(missing)
    chosen = []
    for _ in range(count):
        neediest = max(left, key=lambda c: left[c])
        left[neediest] -= 1
        chosen.append(neediest)
    return chosen


def draw_label_maps(
    primaries: Sequence[int],
    known: Sequence[int],
    size: int,
    shapes: Shapes,
    rng: np.random.Generator,
) -> UInt8[np.ndarray, "n s s"]:
    """Draws one label map for each primary class, with up to two further `known` classes.

    Objects keep a `margin` to the image border, because jitter rolls images around it. An object
    never covers an object drawn before it, so the primary is never covered; an object that cannot
    be placed with half of its pixels visible is left out. A shape that is too thin to cover its
    share of the image is drawn again, and finally replaced by a `procedural` one.

    Args:
        primaries: One class for each label map, as network outputs.
        known: Classes that further objects are drawn from, with equal probability, each class at
            most once in a label map.
        size: Side of a label map in pixels.
        shapes: `procedural`, or the result of `transplanted`.
        rng: Decides everything: the same state gives the same label maps.

    Raises:
        ValueError: `size` is below `SMALLEST`, or a class is not in [1, 254].
    """
    at_least(SMALLEST, size=size)
    for label in (*primaries, *known):
        if not BACKGROUND < label < IGNORE:
            raise ValueError(
                f"classes to draw must lie in [{BACKGROUND + 1}, {IGNORE - 1}], got {label}"
            )
    label_maps = np.full((len(primaries), size, size), BACKGROUND, np.uint8)
    for label_map, primary in zip(label_maps, primaries, strict=True):
        _place(label_map, primary, _fitted(shapes, size, PRIMARY_SHARE, rng), rng)
        others = sorted({*known} - {primary})
        count = min(rng.binomial(2, SECONDARY_CHANCE), len(others))
        for other in rng.choice(others, count, replace=False):
            _place(label_map, int(other), _fitted(shapes, size, SECONDARY_SHARE, rng), rng)
    return label_maps


def margin(size: int) -> int:
    """Returns the distance in pixels from objects to the border: an eighth of the side or more."""
    return -(-size // 8)


def _fitted(
    shapes: Shapes, size: int, share: tuple[float, float], rng: np.random.Generator
) -> ObjectMask:
    """Draws a mask that fits between the margins and covers a share of the map within bounds.

    The loop ends, because procedural blobs can always be scaled to fit.
    """
    least, most = (bound * size**2 for bound in share)
    room = size - 2 * margin(size)
    sources = itertools.chain(itertools.repeat(shapes, TRIES), itertools.repeat(procedural))
    while True:
        mask = next(sources)(size, rng)
        area = max(mask.sum(), 1)
        # a random area within the bounds: at the nearest bound, small objects would all be equal
        factor = 1.0 if least <= area <= most else np.sqrt(rng.uniform(least, most) / area)
        mask = scaled(mask, min(factor, room / max(mask.shape)))
        if least <= mask.sum() <= most:
            return mask


def _place(
    label_map: UInt8[np.ndarray, "s s"],
    label: int,
    mask: ObjectMask,
    rng: np.random.Generator,
) -> None:
    least = margin(len(label_map))
    for _ in range(TRIES):
        top, left = (rng.integers(least, len(label_map) - least - n + 1) for n in mask.shape)
        window = label_map[top : top + mask.shape[0], left : left + mask.shape[1]]
        free = mask & (window == BACKGROUND)
        if 2 * free.sum() >= mask.sum():
            window[free] = label
            return
