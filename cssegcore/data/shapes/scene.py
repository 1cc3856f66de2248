"""One photograph-like scene and its labels."""

from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import ImageFilter

from cssegcore.core.types import BACKGROUND, IGNORE
from cssegcore.data.shapes import outlines
from cssegcore.data.shapes.backgrounds import make_background
from cssegcore.data.shapes.materials import Picture, smooth_noise, to_image
from cssegcore.data.shapes.sprites import (
    CLASSES,
    OBJECT_RADII,
    Sprite,
    draw_frame,
    lay,
    make_clutter,
    make_object,
)

SUPERSAMPLING: Final = 3
"""A scene is drawn so many times larger and averaged down: edges are soft as in a photograph."""

LEAST_VISIBLE: Final = 0.35
"""Share of an object's outline that must be seen; occlusion and image borders hide the rest."""

PLACEMENTS: Final = 12
"""Attempts to find a place where enough of an object is seen, before it is left out."""


def make_scene(rng: np.random.Generator, size: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Draws a scene.

    Returns:
        The photograph (``size`` x ``size`` x RGB) and its labels (``size`` x ``size``): places in
        `CLASSES`, and ``IGNORE`` on a border of one pixel round each object.
    """
    drawn = size * SUPERSAMPLING
    canvas = make_background(rng, drawn)
    clutter = [make_clutter(rng, drawn) for _ in range(rng.integers(0, 6))]
    objects = _placed(rng, drawn)
    angle = rng.uniform(0, 2 * np.pi)
    light = np.array([np.sin(angle), np.cos(angle)], np.float32)
    for sprite in (*clutter, *objects):
        lay(canvas, sprite, light)
    return _photographed(canvas, rng), _labels(objects, size)


def _placed(rng: np.random.Generator, size: int) -> list[Sprite]:
    """One to four objects, the lowest first.

    They are placed from the top down, so that each is judged by what stays visible of it.
    """
    covered = np.zeros((size, size), bool)
    sprites: list[Sprite] = []
    for label in rng.integers(1, len(CLASSES), rng.integers(1, 5)):
        for _ in range(PLACEMENTS):
            frame = draw_frame(rng, size, OBJECT_RADII)
            sprite = make_object(rng, int(label), frame)
            visible = np.count_nonzero(sprite.mask & ~covered[frame.window])
            if visible >= LEAST_VISIBLE * outlines.AREA * frame.radius**2:
                covered[frame.window] |= sprite.mask
                sprites.append(sprite)
                break
    return sprites[::-1]


def _photographed(canvas: Picture, rng: np.random.Generator) -> NDArray[np.uint8]:
    """The canvas as a camera shows it: uneven light, a tint, exposure, blur, noise, 8 bits."""
    drawn = canvas.shape[0]
    ramp = np.linspace(-1, 1, drawn, dtype=np.float32)
    slope = rng.normal(0, 0.18, 2).astype(np.float32)
    clouds = 0.07 * smooth_noise(rng, (drawn, drawn), (2.0, 2.0))
    light = 1 + slope[0] * ramp[:, None] + slope[1] * ramp + clouds
    tint = np.float32(rng.uniform(0.9, 1.1, 3) * rng.uniform(0.75, 1.15))
    image = to_image(canvas * light[..., None] * tint)
    image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0, 0.7) * SUPERSAMPLING))
    pixels = np.asarray(image.reduce(SUPERSAMPLING), np.float32)
    grain = rng.normal(0, rng.uniform(1, 7), pixels.shape)
    return np.clip(pixels + grain, 0, 255).astype(np.uint8)


def _labels(objects: list[Sprite], size: int) -> NDArray[np.uint8]:
    """Labels of the objects, lowest first; borders lie on the lower side of each edge.

    So objects lose no pixel to their own border, which matters for thin ones at this size.
    """
    owner = np.zeros((size * SUPERSAMPLING, size * SUPERSAMPLING), np.uint8)
    for place, sprite in enumerate(objects, start=1):
        owner[sprite.window][sprite.mask] = place
    middle = slice(SUPERSAMPLING // 2, None, SUPERSAMPLING)
    owner = owner[middle, middle]
    names = np.array([BACKGROUND, *(sprite.label for sprite in objects)], np.uint8)
    return np.where(_highest_neighbour(owner) > owner, np.uint8(IGNORE), names[owner])


def _highest_neighbour(owner: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The highest value above, below, left and right of each pixel."""
    padded = np.pad(owner, 1)
    beside = np.maximum(padded[1:-1, :-2], padded[1:-1, 2:])
    return np.maximum(beside, np.maximum(padded[:-2, 1:-1], padded[2:, 1:-1]))
