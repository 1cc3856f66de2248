"""Saliency detection: MB+ of Zhang et al., ICCV 2015, and Otsu's threshold.

Zhang et al., Minimum Barrier Salient Object Detection at 80 FPS,
https://doi.org/10.1109/ICCV.2015.165; Otsu, A Threshold Selection Method from Gray-Level
Histograms, IEEE Trans. SMC 9(1), 1979, https://doi.org/10.1109/TSMC.1979.4310076.

The parts of MB+ used here are the barrier distance to the border, summed over the colour channels,
and the contrast to the margins. Deviations: images are RGB and at most 200 pixels long, where the
released code takes Lab at 300 pixels and removes picture frames; a Gaussian smooths the map, where
the paper uses morphological reconstruction; there is no centre prior and no contrast enhancement,
because a threshold follows.
"""

from typing import Final

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image, ImageFilter

from cssegcore.saliency.backgroundness import border_contrast, peak_one
from cssegcore.saliency.barrier import barrier_distance

LONGEST_SIDE: Final = 200
"""Longer side, in pixels, of the shrunk photographs."""

SMOOTHING: Final = 1 / 64
"""Standard deviation of the smoothing, as a share of the longer side."""


LEAST_BARRIER: Final = 255.0
"""Least normalizer of the barrier distances, in grey levels summed over the channels. In a
photograph where every object touches the border, distances are noise, which must not be scaled up
to 1."""


def shrink(photograph: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "hs ws 3"]:
    """Shrinks by area averaging so that no side exceeds `LONGEST_SIDE`; never enlarges."""
    height, width, _ = photograph.shape
    scale = min(1.0, LONGEST_SIDE / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return np.asarray(Image.fromarray(photograph).resize(size, Image.Resampling.BOX))


def saliency_maps(photographs: UInt8[np.ndarray, "b h w 3"]) -> UInt8[np.ndarray, "b h w"]:
    """Computes the saliency of each pixel, up to 255.

    Args:
        photographs: Photographs of one size, shrunk before: time and memory grow with the pixels.
    """
    b, h, w, _ = photographs.shape
    planes = photographs.transpose(0, 3, 1, 2).reshape(3 * b, h, w)
    distance = barrier_distance(planes).reshape(b, 3, h, w).sum(1, dtype=np.uint16)
    maps = peak_one(peak_one(distance, LEAST_BARRIER) + peak_one(border_contrast(photographs)))
    blur = ImageFilter.GaussianBlur(SMOOTHING * max(h, w))
    levels = (maps * 255).round().astype(np.uint8)
    return np.stack([np.asarray(Image.fromarray(level).filter(blur)) for level in levels])


def salient(
    saliency: UInt8[np.ndarray, "hs ws"], shape: tuple[int, int]
) -> Bool[np.ndarray, "h w"]:
    """Enlarges a map to `shape` and marks the pixels above the map's Otsu threshold."""
    height, width = shape
    enlarged = Image.fromarray(saliency).resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(enlarged) > otsu(saliency)


def otsu(saliency: UInt8[np.ndarray, "h w"]) -> int:
    """Returns Otsu's threshold: the level that maximises the variance between the two classes.

    For a map of a single level it is 255, so that no pixel is above.
    """
    counts = np.bincount(saliency.ravel(), minlength=256)
    below, mass = counts.cumsum(), (counts * np.arange(256)).cumsum()
    above = below[-1] - below
    # Integers up to here keep zeros exact; their square would overflow, so it is a float.
    lead = (mass * above - (mass[-1] - mass) * below).astype(np.float64)
    between = lead**2 / np.maximum(below * above, 1)
    return int(between.argmax()) if between.any() else 255
