"""Minimum barrier distance: the smallest value range among all paths to the image border.

Strand et al., The minimum barrier distance, CVIU 117(4), 2013,
https://doi.org/10.1016/j.cviu.2012.10.011; computed as by Zhang et al., Minimum Barrier Salient
Object Detection at 80 FPS, ICCV 2015, https://doi.org/10.1109/ICCV.2015.165.
"""

import itertools
from typing import Final

import numpy as np
from jaxtyping import UInt8

ROUNDS: Final = 3
"""Number of sweeps in all four directions; the paper makes three raster scans."""


def barrier_distance(planes: UInt8[np.ndarray, "n h w"]) -> UInt8[np.ndarray, "n h w"]:
    """Computes, for each pixel, the smallest (highest - lowest) value over paths to the border.

    Paths go through the four neighbours. The result belongs to an existing path, so it is never
    below the exact distance. It is above where the best path has many turns, or contains a pixel
    whose own best path is another one.

    Deviation: whole rows go down and up, whole columns right and left, all planes at once, where
    the paper scans pixel by pixel and looks at two neighbours.
    """
    values = np.ascontiguousarray(planes.transpose(1, 2, 0))
    turned = _turned(values)
    # The widest range marks a pixel that no path has reached yet.
    highest, lowest = np.full_like(values, 255), np.zeros_like(values)
    for edge in (np.s_[0], np.s_[-1], np.s_[:, 0], np.s_[:, -1]):
        highest[edge] = lowest[edge] = values[edge]
    for _ in range(ROUNDS):
        _sweep(values, highest, lowest)
        highest, lowest = _turned(highest), _turned(lowest)
        _sweep(turned, highest, lowest)
        highest, lowest = _turned(highest), _turned(lowest)
    return np.ascontiguousarray((highest - lowest).transpose(2, 0, 1))


def _turned(values: UInt8[np.ndarray, "h w n"]) -> UInt8[np.ndarray, "w h n"]:
    """Swaps rows and columns in a copy, as sweeps along strided rows take ten times as long."""
    return np.ascontiguousarray(values.swapaxes(0, 1))


def _sweep(
    values: UInt8[np.ndarray, "h w n"],
    highest: UInt8[np.ndarray, "h w n"],
    lowest: UInt8[np.ndarray, "h w n"],
) -> None:
    """Extends each row's paths to the next row where that is better, down and then up, in place.

    All arrays are bytes without masked copies, so that NumPy uses vector instructions throughout.
    """
    high, low = np.empty_like(values[0]), np.empty_like(values[0])
    better = np.empty(high.shape, bool)
    mask = better.view(np.uint8)
    rows = range(len(values))
    for order in (rows, rows[::-1]):
        for before, here in itertools.pairwise(order):
            np.maximum(highest[before], values[here], out=high)
            np.minimum(lowest[before], values[here], out=low)
            np.less(high - low, highest[here] - lowest[here], out=better)
            np.negative(mask, out=mask)  # 1 becomes 255
            for held, offered in ((highest[here], high), (lowest[here], low)):
                offered ^= held
                offered &= mask
                held ^= offered
