"""Things that lie on the ground: the eight object classes, and clutter that is background."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from cssegcore.core.types import BACKGROUND
from cssegcore.data.shapes import outlines, patterns
from cssegcore.data.shapes.materials import (
    Mask,
    Picture,
    Plane,
    blend,
    blurred,
    colour,
    smooth_noise,
)

_KINDS: Final[tuple[tuple[str, outlines.Outline, patterns.Pattern], ...]] = (
    ("disc", outlines.disc, patterns.rings),
    ("triangle", outlines.triangle, patterns.stripes),
    ("square", outlines.square, patterns.checks),
    ("star", outlines.star, patterns.rays),
    ("cross", outlines.cross, patterns.dots),
    ("crescent", outlines.crescent, patterns.waves),
    ("ring", outlines.ring, patterns.segments),
    ("hexagon", outlines.hexagon, patterns.hatching),
)
"""Name, outline and pattern of each object class."""

CLASSES: Final[tuple[str, ...]] = ("background", *(name for name, _, _ in _KINDS))
"""Class names; the place in this tuple is the label value."""

CLUTTER: Final = (outlines.ellipse, outlines.stick)

OBJECT_RADII: Final = (0.15, 0.32)
CLUTTER_RADII: Final = (0.02, 0.09)
"""Smallest and largest, as a share of the picture's side."""

REACH: Final = 1.8
"""Radii from the centre within which a thing, however stretched, and its shadow lie."""


@dataclass(frozen=True)
class Frame:
    """A place in the picture with coordinates of its own: radius 1, turned, a little flattened."""

    window: tuple[slice, slice]
    u: Plane
    v: Plane
    radius: float


@dataclass(frozen=True)
class Sprite:
    """A thing in its window of the picture.

    Attributes:
        height: Length of its shadow, in pixels; its edge is rounded over as many.
    """

    label: int
    window: tuple[slice, slice]
    mask: Mask
    surface: Picture
    height: float


def make_object(rng: np.random.Generator, label: int, frame: Frame) -> Sprite:
    """An object of a class, its colours drawn at random: they say nothing about the class."""
    _, outline, pattern = _KINDS[label - 1]
    surface = _painted(rng, pattern(frame.u, frame.v, rng))
    mask = outline(frame.u, frame.v)
    return Sprite(label, frame.window, mask, surface, height=0.12 * frame.radius)


def make_clutter(rng: np.random.Generator, size: int) -> Sprite:
    """A pebble or a stick without a pattern."""
    outline = CLUTTER[rng.integers(len(CLUTTER))]
    frame = draw_frame(rng, size, CLUTTER_RADII)
    surface = _painted(rng, np.full(frame.u.shape, rng.uniform(), np.float32))
    mask = outline(frame.u, frame.v)
    return Sprite(BACKGROUND, frame.window, mask, surface, height=0.2 * frame.radius)


def draw_frame(rng: np.random.Generator, size: int, radii: tuple[float, float]) -> Frame:
    """A random place, its centre in the picture; small radii are as frequent as large by ratio.

    The frame is turned, flattened by up to a quarter in some direction, and turned again.
    """
    radius = size * float(np.exp(rng.uniform(*np.log(radii))))
    centre = size * rng.uniform(0.05, 0.95, 2)
    stretch = np.sqrt(rng.uniform(0.75, 1))
    to_frame = _turn(rng) @ np.diag([stretch, 1 / stretch]) @ _turn(rng) / radius
    top, left = np.maximum(centre - REACH * radius, 0).astype(int)
    bottom, right = np.minimum(centre + REACH * radius + 1, size).astype(int)
    y = np.arange(top, bottom, dtype=np.float32)[:, None] - np.float32(centre[0])
    x = np.arange(left, right, dtype=np.float32)[None, :] - np.float32(centre[1])
    u, v = (row[0] * x + row[1] * y for row in to_frame.astype(np.float32))
    return Frame((slice(top, bottom), slice(left, right)), u, v, radius)


def lay(canvas: Picture, sprite: Sprite, light: NDArray[np.floating]) -> None:
    """Draws a sprite into the picture: its shadow, then its surface with lit and dim edges.

    ``light`` is a unit vector (down, right) towards the light.
    """
    below = canvas[sprite.window]
    soft = blurred(sprite.mask, sprite.height / 2)
    down, right = np.round(-light * sprite.height).astype(int).tolist()
    shadow = _shifted(soft, down, right)
    slope_down, slope_right = np.gradient(soft)
    facing = -(slope_down * light[0] + slope_right * light[1]) * np.float32(sprite.height)
    lit = sprite.surface * (1 + 0.9 * np.clip(facing, -0.6, 0.6))[..., None]
    below *= 1 - 0.5 * shadow[..., None]
    np.copyto(below, lit, where=sprite.mask[..., None])


def _turn(rng: np.random.Generator) -> NDArray[np.float64]:
    angle = rng.uniform(0, 2 * np.pi)
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def _painted(rng: np.random.Generator, pattern: Plane) -> Picture:
    """A dark and a light colour, mixed by a pattern, a little worn."""
    middle, contrast = rng.uniform(0.4, 0.6), rng.uniform(0.4, 0.8)
    dark, light = colour(rng, middle - contrast / 2), colour(rng, middle + contrast / 2)
    wear = 1 + 0.05 * smooth_noise(rng, pattern.shape, (12.0, 12.0), octaves=2)
    return blend(pattern, dark, light) * wear[..., None]


def _shifted(plane: Plane, down: int, right: int) -> Plane:
    """The plane moved by whole pixels; new pixels repeat the edge."""
    margin = max(abs(down), abs(right))
    height, width = plane.shape
    padded = np.pad(plane, margin, mode="edge")
    return padded[margin - down :, margin - right :][:height, :width]
