"""A photograph of any size as a network sees it: whole, resized, or tile by tile."""

import dataclasses
import itertools
import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32, UInt8
from PIL import Image
from torch import Tensor

from cssegcore.core.errors import InputError
from cssegcore.data.crop_and_resize import normalise
from cssegcore.models.segmenter import Segmenter, class_scores

_BAND = 64
"""Rows that are enlarged at a time, so that no scores of a large photograph are held whole."""


@dataclasses.dataclass(frozen=True)
class View:
    """Size and tiles of a photograph for a network; by default whole and at its own size.

    Attributes:
        size: Pixels of its shorter side after resizing.
        tile: Side of the squares that a larger photograph is cut into.
        overlap: Pixels that neighbouring tiles share at least; None: a quarter of a tile.
    """

    size: int | None = None
    tile: int | None = None
    overlap: int | None = None

    def __post_init__(self) -> None:
        if self.size and self.tile:
            raise InputError(
                "a photograph is resized (`size`) or cut (`tile`), not both: drop one."
            )
        if self.overlap is not None and not 0 <= self.overlap < (self.tile or 0):
            raise InputError(
                f"tiles of {self.tile} pixels cannot overlap by {self.overlap}: give `tile`, and an"
                " overlap that is smaller."
            )

    @property
    def shared(self) -> int:
        """Pixels that neighbouring tiles share at least."""
        return (self.tile or 0) // 4 if self.overlap is None else self.overlap


WHOLE = View()


@dataclasses.dataclass(frozen=True)
class Scored:
    """Labels of a photograph, and their certainty.

    Attributes:
        labels: The class of each pixel.
        confidences: Score of that class: see `class_scores`.
        entropies: Entropy of the scores after scaling their sum to 1; 1 where all are equal.
    """

    labels: UInt8[np.ndarray, "h w"]
    confidences: Float32[np.ndarray, "h w"]
    entropies: Float32[np.ndarray, "h w"]


class Interval(NamedTuple):
    """A tile along one axis: pixels start to stop are read, first to end are decided."""

    start: int
    stop: int
    first: int
    end: int


@torch.inference_mode()
def score_photograph(
    segmenter: Segmenter,
    photograph: UInt8[np.ndarray, "h w 3"],
    device: torch.device,
    view: View = WHOLE,
) -> Scored:
    """Labels a photograph, with the certainty of each pixel.

    Of overlapping tiles, each pixel is decided by the one whose border is farthest. A photograph
    that fits into a tile is seen whole.

    Args:
        segmenter: The model, in evaluation mode, on `device`.
        photograph: RGB.
        device: Device of the model.
        view: Size and tiles of the photograph.
    """
    height, width, _ = photograph.shape
    kinds = (np.uint8, np.float32, np.float32)
    scored = Scored(*(np.empty((height, width), kind) for kind in kinds))
    for rows, columns, logits in _pieces(segmenter, photograph, device, view):
        labels, confidences, entropies = decide(segmenter, logits)
        scored.labels[rows, columns] = labels[0].byte().cpu().numpy()
        scored.confidences[rows, columns] = confidences[0].cpu().numpy()
        scored.entropies[rows, columns] = entropies[0].cpu().numpy()
    return scored


def decide(
    segmenter: Segmenter, logits: Float[Tensor, "b c h w"]
) -> tuple[Tensor, Float[Tensor, "b h w"], Float[Tensor, "b h w"]]:
    """Returns labels, their scores, and the entropies of all scores (0 to 1)."""
    labels = segmenter.classify(logits)
    scores = class_scores(logits, segmenter.unknown, segmenter.background)
    shares = scores / scores.sum(1, keepdim=True)
    entropies = -torch.xlogy(shares, shares).sum(1) / math.log(max(2, shares.shape[1]))
    return labels, scores.gather(1, labels[:, None])[:, 0], entropies


def _pieces(
    segmenter: Segmenter, photograph: UInt8[np.ndarray, "h w 3"], device: torch.device, view: View
) -> Iterator[tuple[slice, slice, Float[Tensor, "1 c _ _"]]]:
    """Gives rows, columns and their logits, which cover the photograph."""
    height, width, _ = photograph.shape
    if view.size:
        scale = view.size / min(height, width)
        small = (max(1, round(width * scale)), max(1, round(height * scale)))
        seen = Image.fromarray(photograph).resize(small, Image.Resampling.BILINEAR)
        logits = _logits(segmenter, np.asarray(seen), device)
        for top in range(0, height, _BAND):
            rows = slice(top, min(top + _BAND, height))
            yield rows, slice(0, width), enlarged_rows(logits, (height, width), rows)
        return
    down, across = (intervals(side, view.tile or side, view.shared) for side in (height, width))
    for y, x in itertools.product(down, across):
        logits = _logits(segmenter, photograph[y.start : y.stop, x.start : x.stop], device)
        rows, columns = slice(y.first, y.end), slice(x.first, x.end)
        own = logits[..., y.first - y.start : y.end - y.start, x.first - x.start : x.end - x.start]
        yield rows, columns, own


def _logits(
    segmenter: Segmenter, photograph: UInt8[np.ndarray, "h w 3"], device: torch.device
) -> Float[Tensor, "1 c h w"]:
    pixels = torch.from_numpy(photograph.copy())[None].to(device)
    return segmenter(normalise(pixels, segmenter.normalization)).logits


def intervals(length: int, tile: int, overlap: int) -> list[Interval]:
    """Covers a side with tiles of one length, evenly, that share `overlap` pixels or more.

    >>> [tuple(one) for one in intervals(10, 6, 2)]
    [(0, 6, 0, 5), (4, 10, 5, 10)]
    """
    if length <= tile:
        return [Interval(0, length, 0, length)]
    count = -(-(length - overlap) // (tile - overlap))
    starts = [at * (length - tile) // (count - 1) for at in range(count)]
    bounds = [0, *((a + tile + b) // 2 for a, b in itertools.pairwise(starts)), length]
    own = itertools.pairwise(bounds)
    return [Interval(at, at + tile, *edges) for at, edges in zip(starts, own, strict=True)]


def enlarged_rows(
    logits: Float[Tensor, "b c hs ws"], size: tuple[int, int], rows: slice
) -> Float[Tensor, "b c _ w"]:
    """Returns rows `rows` of the logits resized bilinearly to `size` (corners not aligned)."""
    side = logits.shape[-2]
    places = torch.arange(rows.start, rows.stop, device=logits.device, dtype=torch.float32)
    places = ((places + 0.5) * (side / size[0]) - 0.5).clamp(0, side - 1)
    above = places.floor().long()
    share = (places - above)[:, None]
    below = (above + 1).clamp(max=side - 1)
    between = logits[:, :, above] * (1 - share) + logits[:, :, below] * share
    return F.interpolate(between, (len(places), size[1]), mode="bilinear")
