"""Regions of a step's images that show old classes, and that show none, by the old model.

STAR's statistic and losses share it. Output 0, the background's place, is never looked at.

Chen et al., Saving 100x Storage: Prototype Replay for Reconstructing Training Sample Distribution
in Class-Incremental Semantic Segmentation (STAR), NeurIPS 2023; jinpeng0528/STAR.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from cssegcore.core.types import BACKGROUND

RAW_THRESHOLD = 0.5
"""Logit (not sigmoid) above which the old model sees a class, as released."""

_EPS = 1e-12


def centre_pixels(
    maps: Shaped[Tensor, "*n h w"], size: Sequence[int]
) -> Shaped[Tensor, "*n hs ws"]:
    """Returns the middle pixel of the area that each position of a feature map covers.

    At stride 16 these are 8 + 16 i, as published.
    """
    rows, columns = (
        (2 * torch.arange(out, device=maps.device) + 1) * full // (2 * out)
        for full, out in zip(maps.shape[-2:], size, strict=True)
    )
    return maps[..., rows[:, None], columns]


def predicted_classes(
    old_logits: Float[Tensor, "b k h w"], threshold: float = RAW_THRESHOLD
) -> Int[Tensor, "b h w"]:
    """Returns the class of the largest logit where it exceeds the threshold, else 0."""
    best, at = old_logits[:, BACKGROUND + 1 :].max(1)
    return torch.where(best > threshold, at + 1, BACKGROUND)


def old_classes_are_seen(
    old_logits: Float[Tensor, "b k h w"], threshold: float = RAW_THRESHOLD
) -> Bool[Tensor, "b h w"]:
    """Returns the mask of pixels whose `predicted_classes` are not 0."""
    return old_logits[:, BACKGROUND + 1 :].amax(1) > threshold


def reduced(region: Bool[Tensor, "*n h w"], size: Sequence[int]) -> Float[Tensor, "*n hs ws"]:
    """Reduces a region to its share of each place of a feature map: bilinear, no antialiasing."""
    height, width = size
    maps = region.float().reshape(-1, 1, *region.shape[-2:])
    lowres = F.interpolate(maps, (height, width), mode="bilinear", align_corners=False)
    return lowres.reshape(*region.shape[:-2], height, width)


def unit(vectors: Float[Tensor, "*shape"], dim: int) -> Float[Tensor, "*shape"]:
    """Divides vectors by their lengths, but by 1e-12 at least."""
    return F.normalize(vectors, dim=dim, eps=_EPS)
