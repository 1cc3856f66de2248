"""Contrast of each pixel's colour to the colours of the photograph's margins.

Zhang et al., Minimum Barrier Salient Object Detection at 80 FPS, ICCV 2015,
https://doi.org/10.1109/ICCV.2015.165: the cue that turns their MB into MB+.
"""

from typing import Final

import numpy as np
from jaxtyping import Float32, Float64, Num, UInt8

_MARGIN: Final = 0.1
"""Width of a margin, as a share of the photograph's height or width."""

REGULARISER: Final = 50.0
"""Added to every channel's variance, in squared grey levels, as in the released code. Without it,
noise beside a margin of a single colour (variance 0) would look like contrast."""


def border_contrast(photographs: UInt8[np.ndarray, "b h w 3"]) -> Float32[np.ndarray, "b h w"]:
    """Computes the Mahalanobis distances to the colours of the four margins, and sums three.

    The distance to each margin is divided by its maximum over the photograph. At each pixel the
    largest of the four distances is left out, because an object may lie on one margin.

    Deviation: the released code sums absolute whitened coordinates; a Mahalanobis distance is the
    root of their squares.
    """
    planes = np.ascontiguousarray(photographs.transpose(3, 0, 1, 2), np.float32)
    height, width = (max(1, round(_MARGIN * n)) for n in photographs.shape[1:3])
    distances = [
        _distance(planes, photographs[margin])
        for margin in (
            np.s_[:, :height],
            np.s_[:, -height:],
            np.s_[:, :, :width],
            np.s_[:, :, -width:],
        )
    ]
    return np.sum(distances, axis=0) - np.max(distances, axis=0)


def _distance(
    planes: Float32[np.ndarray, "3 b h w"], margin: UInt8[np.ndarray, "b _ _ 3"]
) -> Float32[np.ndarray, "b h w"]:
    """Computes the distance to one margin, scaled to a maximum of 1."""
    mean, factor = _statistics(margin)
    mean, factor = mean.T[..., None, None], factor.transpose(1, 2, 0)[..., None, None]
    red, green, blue = (plane - m for plane, m in zip(planes, mean, strict=True))
    # No matrix product: it rounds differently for a batch than for a single image.
    total = (red * factor[0, 0] + green * factor[1, 0] + blue * factor[2, 0]) ** 2
    total += (green * factor[1, 1] + blue * factor[2, 1]) ** 2
    total += (blue * factor[2, 2]) ** 2
    return peak_one(np.sqrt(total))


def _statistics(
    margin: UInt8[np.ndarray, "b _ _ 3"],
) -> tuple[Float32[np.ndarray, "b 3"], Float32[np.ndarray, "b 3 3"]]:
    """Computes mean colours and the lower Cholesky factors of the inverse covariances."""
    pixels = margin.reshape(len(margin), -1, 3).astype(np.float64)
    count = pixels.shape[1]
    # Sums of integers are exact in any order, so batches and single images give equal numbers.
    total, products = pixels.sum(1), pixels.swapaxes(1, 2) @ pixels
    mean = total / count
    covariance: Float64[np.ndarray, "b 3 3"] = products / count - mean[:, :, None] * mean[:, None]
    inverse = np.linalg.inv(covariance + REGULARISER * np.eye(3))
    return mean.astype(np.float32), np.linalg.cholesky(inverse).astype(np.float32)


def peak_one(maps: Num[np.ndarray, "b h w"], least: float = 1e-6) -> Float32[np.ndarray, "b h w"]:
    """Divides each map by its maximum, or by `least` if the maximum is smaller."""
    return (maps / np.maximum(maps.max((1, 2), keepdims=True), least)).astype(np.float32)
