"""Generated images of noise, and how tests read image files."""

import numpy as np
from PIL import Image

from cssegcore.inversion.store import GeneratedImage

VOID = 255


def generated(name="step0_red_0000", seed=0, size=16):
    rng = np.random.default_rng(seed)
    return GeneratedImage(
        name,
        rng.integers(0, 256, (size, size, 3), np.uint8),
        rng.choice([0, 1, 2, VOID], (size, size)).astype(np.uint8),
        rng.integers(0, 256, (size, size), np.uint8),
        rng.choice([0, 1], (size, size)).astype(np.uint8),
    )


def picture(path):
    with Image.open(path) as image:
        return np.array(image)


def generator(seed=0):
    return np.random.default_rng(seed)


def outlines():
    """A label map with a rectangle, a ring, a diagonal line and a speck."""
    labels = np.zeros((40, 40), np.uint8)
    labels[2:12, 3:30] = 7
    labels[20:32, 5:17] = 8
    labels[23:29, 8:14] = 0
    labels[np.arange(18, 36), np.arange(20, 38)] = 7
    labels[35:38, 2:4] = 8
    return labels
