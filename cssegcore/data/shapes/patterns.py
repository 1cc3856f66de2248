"""Surface patterns of the object classes: a mix of two tones, from 0 to 1, in the object's frame.

A pattern turns and shrinks with its object. Its period and phase vary from object to object, its
kind does not: the kind belongs to the class.
"""

from collections.abc import Callable

import numpy as np

from cssegcore.data.shapes.materials import Plane

Pattern = Callable[[Plane, Plane, np.random.Generator], Plane]


def rings(u: Plane, v: Plane, rng: np.random.Generator) -> Plane:
    """Concentric circles."""
    return _bands(np.hypot(u, v) / _period(rng, 0.5) + 0.25)


def stripes(u: Plane, v: Plane, rng: np.random.Generator) -> Plane:
    """Straight parallel bands."""
    turn = rng.uniform(0, np.pi)
    return _bands((u * np.cos(turn) + v * np.sin(turn)) / _period(rng, 0.56) + rng.uniform())


def checks(u: Plane, v: Plane, rng: np.random.Generator) -> Plane:
    """A chessboard."""
    period = _period(rng, 0.84)
    return _steps(4 * _wave(u / period) * _wave(v / period))


def rays(u: Plane, v: Plane, rng: np.random.Generator) -> Plane:
    """Ten sectors from the centre, light and dark: each point of a star is halved."""
    return _bands(5 * np.arctan2(v, u) / (2 * np.pi))


def dots(u: Plane, v: Plane, rng: np.random.Generator) -> Plane:
    """Spots on a square lattice."""
    period = _period(rng, 0.5)
    return _steps(2.5 * (_wave(u / period + 0.25) + _wave(v / period + 0.25) - 0.6))


def waves(u: Plane, v: Plane, rng: np.random.Generator) -> Plane:
    """Bands that wind."""
    return _bands(v / _period(rng, 0.6) + 0.4 * _wave(u / _period(rng, 0.9)) + rng.uniform())


def segments(u: Plane, v: Plane, rng: np.random.Generator) -> Plane:
    """Few sectors, like a life belt."""
    return _bands(rng.integers(3, 6) * np.arctan2(v, u) / (2 * np.pi))


def hatching(u: Plane, v: Plane, rng: np.random.Generator) -> Plane:
    """Two families of thin lines that cross."""
    period = _period(rng, 0.54)
    crossing = np.maximum(_wave((u + 0.58 * v) / period), _wave((u - 0.58 * v) / period))
    return _steps(3 * (crossing - 0.6))


def _period(rng: np.random.Generator, mean: float) -> float:
    return mean * rng.uniform(0.8, 1.25)


def _wave(x: Plane) -> Plane:
    return np.sin(2 * np.pi * x)


def _bands(x: Plane) -> Plane:
    """One light and one dark band per unit of ``x``."""
    return _steps(3 * _wave(x))


def _steps(x: Plane) -> Plane:
    """A ramp from 0 to 1 over -1 ... 1."""
    return np.clip(0.5 + 0.5 * x, 0, 1).astype(np.float32)
