"""Grounds on which the objects lie: haze, sand, grass, wood, bricks, cloth, cobbles."""

from collections.abc import Callable

import numpy as np
from PIL import Image

from cssegcore.data.shapes.materials import (
    Colour,
    Picture,
    Plane,
    blend,
    colour,
    smooth_noise,
    to_image,
    toned,
)

Ground = Callable[[np.random.Generator, int], Picture]


def make_background(rng: np.random.Generator, size: int) -> Picture:
    """A random ground, turned by a random angle and seen slightly from the side."""
    ground = GROUNDS[rng.integers(len(GROUNDS))]
    return _tilted(ground(rng, size), rng)


def haze(rng: np.random.Generator, size: int) -> Picture:
    """Two colours that run into each other with clouds between."""
    ramp = np.linspace(-1, 1, size, dtype=np.float32)[:, None]
    mix = 0.5 + 0.35 * ramp + 0.16 * smooth_noise(rng, (size, size), (3.0, 3.0), octaves=4)
    return blend(mix, colour(rng, rng.uniform(0.25, 0.75)), colour(rng, rng.uniform(0.25, 0.75)))


def sand(rng: np.random.Generator, size: int) -> Picture:
    """Grains with ripples."""
    ripples = smooth_noise(rng, (size, size), (9.0, 3.0), octaves=3)
    grains = smooth_noise(rng, (size, size), (size / 3, size / 3))
    return toned(_earth(rng), 0.08 * ripples + 0.1 * grains)


def grass(rng: np.random.Generator, size: int) -> Picture:
    """Blades, upright and fine, over lighter and darker patches."""
    fine = smooth_noise(rng, (size, size), (size / 14, size / 3))
    broad = smooth_noise(rng, (size, size), (size / 9, size / 5))
    patches = smooth_noise(rng, (size, size), (4.0, 4.0), octaves=2)
    green = np.array([0.3, 0.45, 0.2]) + rng.uniform(-0.12, 0.12, 3)
    return toned(green.astype(np.float32), 0.11 * (fine + broad) + 0.06 * patches)


def wood(rng: np.random.Generator, size: int) -> Picture:
    """Boards with grain along them and dark joints between them."""
    boards = int(rng.integers(3, 8))
    place = np.linspace(0, boards, size, endpoint=False, dtype=np.float32)[:, None]
    board = place.astype(int)
    veins = np.sin(9 * smooth_noise(rng, (size, size), (10.0, 1.5)) + 5 * board.astype(np.float32))
    fibres = smooth_noise(rng, (size, size), (size / 3, 5.0))
    joint = np.abs(place - np.round(place)) < 0.03
    tones = rng.normal(0, 0.08, boards).astype(np.float32)
    return toned(_earth(rng), 0.06 * (veins + fibres) + tones[board] - np.float32(0.3) * joint)


def bricks(rng: np.random.Generator, size: int) -> Picture:
    """Courses of bricks, each brick of its own tone, with lighter or darker mortar."""
    courses = int(rng.integers(5, 10))
    y, x = _grid(size, courses)
    row = y.astype(int)
    x = x / 2 + np.float32(0.5) * (row % 2)
    column = x.astype(int)
    tones = rng.normal(0, 0.08, (courses, courses + 1)).astype(np.float32)
    rough = 0.05 * smooth_noise(rng, (size, size), (size / 5, size / 5), octaves=2)
    joint = (y - row < 0.12) | (x - column < 0.06)
    mortar = toned(np.full(3, rng.uniform(0.25, 0.75), np.float32), rough)
    return np.where(joint[..., None], mortar, toned(_earth(rng), tones[row, column] + rough))


def cloth(rng: np.random.Generator, size: int) -> Picture:
    """A weave, plain or as a loose tartan of two colours, with soft folds."""
    threads = np.sin(np.arange(size, dtype=np.float32) * (2 * np.pi / rng.uniform(5, 9)))
    bars = np.clip(smooth_noise(rng, (1, size), (1.0, 7.0))[0], -0.5, 0.5) * rng.uniform(0, 0.5)
    folds = smooth_noise(rng, (size, size), (2.0, 3.0), octaves=2)
    first, second = (colour(rng, rng.uniform(0.25, 0.75)) for _ in range(2))
    picture = blend(0.5 + np.add.outer(bars, bars), first, second)
    return picture * (1 + 0.12 * folds + 0.1 * np.multiply.outer(threads, threads))[..., None]


def cobbles(rng: np.random.Generator, size: int) -> Picture:
    """Rounded stones: the cells nearest to points on a jittered grid."""
    cells = int(rng.integers(7, 14))
    y, x = _grid(size, cells)
    # One ring of cells more than is seen, so that every pixel has eight neighbour cells.
    stride = cells + 2
    down, right = rng.uniform(0.1, 0.9, (2, stride**2)).astype(np.float32)
    index = np.arange(stride**2)
    down, right = down + index // stride - 1, right + index % stride - 1
    home = (y.astype(int) + 1) * stride + x.astype(int) + 1
    nearest = np.full((size, size), np.inf)
    second, stone = nearest.copy(), home
    for offset in (i * stride + j for i in (-1, 0, 1) for j in (-1, 0, 1)):
        cell = home + offset
        distance = (down[cell] - y) ** 2 + (right[cell] - x) ** 2
        stone = np.where(distance < nearest, cell, stone)
        second = np.minimum(second, np.maximum(nearest, distance))
        nearest = np.minimum(nearest, distance)
    nearest, second = np.sqrt(nearest), np.sqrt(second)
    groove = 1 - np.clip((second - nearest) / 0.25, 0, 1)
    rough = smooth_noise(rng, (size, size), (size / 6, size / 6), octaves=2)
    tones = rng.normal(0, 0.08, stride**2)
    tone = tones[stone] - 0.36 * groove - 0.14 * nearest + 0.05 * rough
    return toned(_earth(rng), tone.astype(np.float32))


GROUNDS: tuple[Ground, ...] = (haze, sand, grass, wood, bricks, cloth, cobbles)


def _grid(size: int, cells: int) -> tuple[Plane, Plane]:
    """Row and column of every pixel, as planes, in units of cells."""
    line = np.arange(size, dtype=np.float32) * (cells / size)
    y, x = np.meshgrid(line, line, indexing="ij")
    return y, x


def _earth(rng: np.random.Generator) -> Colour:
    """Browns, greys and ochres, light or dark."""
    tint = np.array([1.15, 1.0, 0.82]) ** rng.uniform(-0.3, 1.6)
    return (rng.uniform(0.3, 0.7) * tint).astype(np.float32)


def _tilted(picture: Picture, rng: np.random.Generator) -> Picture:
    """The middle part of a picture, turned, magnified and in slight perspective."""
    size = picture.shape[0]
    turn, zoom = rng.uniform(0, 2 * np.pi), rng.uniform(0.42, 0.55)
    a, b = zoom * np.cos(turn), zoom * np.sin(turn)
    skew = rng.uniform(-0.2, 0.2, 2) / size
    middle = size / 2
    # Around the middle: (x, y) -> (a x - b y, b x + a y) / (1 + skew . (x, y)), as the
    # eight numbers PIL wants for coordinates that start at a corner.
    depth = 1 - skew.sum() * middle
    row_x = np.array([a, -b, (b - a) * middle]) + middle * np.array([*skew, depth])
    row_y = np.array([b, a, -(a + b) * middle]) + middle * np.array([*skew, depth])
    numbers = np.concatenate([row_x, row_y, skew]) / depth
    image = to_image(picture).transform(
        (size, size), Image.Transform.PERSPECTIVE, numbers.tolist(), Image.Resampling.BILINEAR
    )
    return np.asarray(image, np.float32) / 255
