"""Random crops cut out of a batch and resized, and the network's input made of photographs."""

from functools import cache

import numpy as np
import torch
from jaxtyping import Float, Int, Real, UInt8
from torch import Tensor

from cssegcore.core.normalization import Normalization
from cssegcore.data.augmentation import Crops
from cssegcore.data.resample import resample
from cssegcore.runtime.device import to_device


def normalise(
    photographs: Real[Tensor, "b h w 3"], normalization: Normalization
) -> Float[Tensor, "b 3 h w"]:
    """Turns values of 0 to 255 into network input: `(value / 255 - mean) / std`.

    The result is channels last in memory, the order in which convolutions are quickest.
    """
    mean, std = _statistics(photographs.device, normalization)
    return ((photographs.float() / 255 - mean) / std).permute(0, 3, 1, 2)


@cache
@torch.inference_mode(False)  # cached: a later caller may need a gradient through them
def _statistics(
    device: torch.device, normalization: Normalization
) -> tuple[Float[Tensor, "3"], Float[Tensor, "3"]]:
    mean, std = normalization.mean, normalization.std
    return torch.tensor(mean, device=device), torch.tensor(std, device=device)


def crop_and_resize(
    photographs: UInt8[Tensor, "b h w 3"],
    labels: UInt8[Tensor, "b h w m"],
    sizes: Int[Tensor, "b 2"],
    views: Crops,
    size: int,
    padding: Int[Tensor, " b"] | None = None,
) -> tuple[Float[Tensor, "b s s 3"], Int[Tensor, "m b s s"]]:
    """Cuts a view out of each image: bilinear for photographs, nearest for labels.

    Args:
        photographs: Padded at the bottom and right to one size.
        labels: m label maps of each image, padded alike.
        sizes: True height and width of each image.
        views: One box and flip for each image.
        size: Height and width s of the result.
        padding: Label of the border that a box adds to each image; see `resample`.

    Returns:
        Photographs, values 0 to 255, and int64 labels.
    """
    device = photographs.device
    boxes = to_device(views.boxes.astype(np.float32), device)
    flips = to_device(views.flips, device)
    ys = _centres(boxes[:, 0], boxes[:, 2], size)
    xs = _centres(boxes[:, 1], boxes[:, 3], size)
    xs = torch.where(flips[:, None], xs.flip(1), xs)
    return resample(photographs, labels, sizes, ys[:, :, None], xs[:, None, :], padding)


def _centres(
    start: Float[Tensor, " b"], length: Float[Tensor, " b"], size: int
) -> Float[Tensor, "b s"]:
    """Returns the centres of s target pixels, in source pixel indices."""
    steps = torch.arange(size, device=start.device) + 0.5
    return start[:, None] + steps * (length[:, None] / size) - 0.5
