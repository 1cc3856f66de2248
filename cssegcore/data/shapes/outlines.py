"""Outlines of the object classes: where an object is, in its own frame.

All outlines cover the same area, so that no class is told by its size and all fill about as many
pixels.
"""

from collections.abc import Callable

import numpy as np

from cssegcore.data.shapes.materials import Mask, Plane

Outline = Callable[[Plane, Plane], Mask]

AREA = 2.2
"""Area of every outline, to within five per cent."""


def disc(u: Plane, v: Plane) -> Mask:
    """A full circle."""
    return u**2 + v**2 < 0.84**2


def ring(u: Plane, v: Plane) -> Mask:
    """A circle with a hole, through which the scene below shows."""
    squared = u**2 + v**2
    return (squared < 1.06**2) & (squared > 0.64**2)


def crescent(u: Plane, v: Plane) -> Mask:
    """A circle out of which a shifted one is cut."""
    return (u**2 + v**2 < 1.16**2) & ((u - 0.72) ** 2 + v**2 > 0.94**2)


def square(u: Plane, v: Plane) -> Mask:
    """A square on its sides."""
    return np.maximum(np.abs(u), np.abs(v)) < 0.74


def cross(u: Plane, v: Plane) -> Mask:
    """Four arms of equal length at right angles."""
    long, short = np.maximum(np.abs(u), np.abs(v)), np.minimum(np.abs(u), np.abs(v))
    return (long < 1.02) & (short < 0.33)


def triangle(u: Plane, v: Plane) -> Mask:
    """An equilateral triangle."""
    return _regular_polygon(u, v, sides=3, inner_radius=0.65)


def hexagon(u: Plane, v: Plane) -> Mask:
    """A regular hexagon."""
    return _regular_polygon(u, v, sides=6, inner_radius=0.8)


def star(u: Plane, v: Plane) -> Mask:
    """Five points; the notches lie at 0.45 of the points' radius."""
    tip, notch = 1.29, 0.45 * 1.29
    radius, angle = np.hypot(u, v), _folded_angle(u, v, sectors=5)
    # In one tenth of the star the edge runs straight from the tip, at angle 0, to a notch.
    notch_x, notch_y = notch * np.cos(np.pi / 5), notch * np.sin(np.pi / 5)
    x, y = radius * np.cos(angle), radius * np.sin(angle)
    return (x - tip) * notch_y < y * (notch_x - tip)


def ellipse(u: Plane, v: Plane) -> Mask:
    """A pebble; background clutter, not a class."""
    return u**2 + (1.5 * v) ** 2 < 1


def stick(u: Plane, v: Plane) -> Mask:
    """A thin rod with round ends; background clutter, not a class."""
    return np.hypot(np.maximum(np.abs(u) - 1, 0), v) < 0.07


def _regular_polygon(u: Plane, v: Plane, *, sides: int, inner_radius: float) -> Mask:
    angle = _folded_angle(u, v, sectors=sides)
    return np.hypot(u, v) * np.cos(angle) < inner_radius


def _folded_angle(u: Plane, v: Plane, *, sectors: int) -> Plane:
    """Angle to the middle of the nearest of so many equal sectors, in [0, pi / sectors]."""
    width = 2 * np.pi / sectors
    angle = np.arctan2(v, u)
    return np.abs(angle - width * np.round(angle / width)).astype(np.float32)
