"""Materials of surfaces and grounds: smooth random planes and random colours."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

Plane = NDArray[np.floating]
Mask = NDArray[np.bool_]
Colour = NDArray[np.floating]
Picture = NDArray[np.floating]
"""Height x width x RGB, black is 0 and white is 1."""


def smooth_noise(
    rng: np.random.Generator, shape: tuple[int, int], cells: tuple[float, float], octaves: int = 1
) -> Plane:
    """Noise of about unit variance, ``cells`` (rows, columns) bumps across the plane.

    Each further octave is twice as fine and half as strong.
    """
    height, width = shape
    total = np.zeros(shape, np.float32)
    for octave in range(octaves):
        rows, columns = (max(2, round(count * 2**octave) + 1) for count in cells)
        grid = Image.fromarray(rng.standard_normal((rows, columns), np.float32))
        total += np.asarray(grid.resize((width, height), Image.Resampling.BICUBIC)) / 2**octave
    return total


def blurred(mask: Mask, radius: float) -> Plane:
    """A mask, 0 or 1, under a Gaussian of this standard deviation in pixels.

    Rounded to 1/255, which is enough for shadows and far faster than floats.
    """
    image = Image.fromarray(mask.astype(np.uint8) * np.uint8(255))
    return np.asarray(image.filter(ImageFilter.GaussianBlur(radius)), np.float32) / 255


def colour(rng: np.random.Generator, lightness: float) -> Colour:
    """A random colour whose red, green and blue have this mean, but for clipping."""
    departure = rng.normal(0, 0.17, 3)
    return np.clip(lightness + departure - departure.mean(), 0.02, 0.98).astype(np.float32)


def blend(mix: Plane, first: Colour, second: Colour) -> Picture:
    """``first`` where the mix is 0, ``second`` where it is 1."""
    return first + np.clip(mix, 0, 1)[..., None] * (second - first)


def toned(base: Colour, tone: Plane) -> Picture:
    """One colour, lighter where ``tone`` is positive and darker where it is negative."""
    return base * (1 + tone[..., None])


def to_image(picture: Picture) -> Image.Image:
    """The picture in 8 bits; values that are too dark or too bright are clipped."""
    return Image.fromarray((np.clip(picture, 0, 1) * 255).astype(np.uint8))
