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
