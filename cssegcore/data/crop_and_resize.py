"""Cutting views out of a batch of photographs and labels, on the device, all at once."""

from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float, Int, Real, UInt8
from torch import Tensor

from cssegcore.data.augmentation import Crops
from cssegcore.runtime.device import to_device
from cssegcore.core.types import IGNORE

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
"""ImageNet's, which every published network of the field is fed with."""


def normalise(photographs: Real[Tensor, "b h w 3"]) -> Float[Tensor, "b 3 h w"]:
    """Turns values of 0 to 255 into network input: [0, 1], less MEAN, over STD.

    The result is channels last in memory, as convolutions like it.
    """
    mean, std = _statistics(photographs.device)
    return ((photographs.float() / 255 - mean) / std).permute(0, 3, 1, 2)


@lru_cache(maxsize=None)
@torch.inference_mode(False)  # cached: a later caller may need a gradient through them
def _statistics(device: torch.device) -> tuple[Float[Tensor, "3"], Float[Tensor, "3"]]:
    return torch.tensor(MEAN, device=device), torch.tensor(STD, device=device)


def crop_and_resize(
    photographs: UInt8[Tensor, "b h w 3"],
    labels: UInt8[Tensor, "b h w m"],
    sizes: Int[Tensor, "b 2"],
    views: Crops,
    size: int,
    padding: Int[Tensor, " b"] | None = None,
) -> tuple[Float[Tensor, "b 3 s s"], Int[Tensor, "m b s s"]]:
    """Cuts a view out of each image: bilinear for photographs, nearest for labels.

    Args:
        photographs: Padded at the bottom and right to one size.
        labels: m label maps of each image, padded alike.
        sizes: True height and width of each image.
        views: One box and flip for each image.
        size: Height and width s of the result.
        padding: Label of what a box adds to each image, in all its maps; the photograph is black
            there, before it is normalised. If left out the label is 255, and the photograph goes
            on as it ends.

    Returns:
        Normalised photographs, and int64 labels.
    """
    device = photographs.device
    boxes = to_device(views.boxes.astype(np.float32), device)
    flips = to_device(views.flips, device)
    ys = _centres(boxes[:, 0], boxes[:, 2], size)
    xs = _centres(boxes[:, 1], boxes[:, 3], size)
    xs = torch.where(flips[:, None], xs.flip(1), xs)
    rows, columns = sizes[:, :1], sizes[:, 1:]
    one = torch.arange(len(photographs), device=device)[:, None, None]

    near = labels[one, _near(ys, rows)[:, :, None], _near(xs, columns)[:, None, :]].long()
    outside = (_outside(ys, rows)[:, :, None]) | (_outside(xs, columns)[:, None, :])
    added = IGNORE if padding is None else padding[:, None, None, None]
    near = torch.where(outside[..., None], added, near).permute(3, 0, 1, 2)

    (y0, y1, wy), (x0, x1, wx) = _neighbours(ys, rows), _neighbours(xs, columns)
    wy, wx = wy[:, :, None, None], wx[:, None, :, None]
    y0, y1, x0, x1 = y0[:, :, None], y1[:, :, None], x0[:, None, :], x1[:, None, :]
    top = torch.lerp(photographs[one, y0, x0].float(), photographs[one, y0, x1].float(), wx)
    low = torch.lerp(photographs[one, y1, x0].float(), photographs[one, y1, x1].float(), wx)
    seen = torch.lerp(top, low, wy)
    if padding is not None:
        seen = torch.where(outside[..., None], 0.0, seen)
    return normalise(seen), near


def _centres(
    start: Float[Tensor, " b"], length: Float[Tensor, " b"], size: int
) -> Float[Tensor, "b s"]:
    """Returns where the centres of s target pixels lie, in source pixel indices."""
    steps = torch.arange(size, device=start.device) + 0.5
    return start[:, None] + steps * (length[:, None] / size) - 0.5


def _near(at: Float[Tensor, "b s"], length: Int[Tensor, "b 1"]) -> Int[Tensor, "b s"]:
    return torch.minimum((at + 0.5).floor().long().clamp(min=0), length - 1)


def _outside(at: Float[Tensor, "b s"], length: Int[Tensor, "b 1"]) -> Tensor:
    return (at < -0.5) | (at >= length - 0.5)


def _neighbours(
    at: Float[Tensor, "b s"], length: Int[Tensor, "b 1"]
) -> tuple[Int[Tensor, "b s"], Int[Tensor, "b s"], Float[Tensor, "b s"]]:
    low = torch.minimum(at.clamp(min=0), (length - 1).float())
    first = low.floor().long()
    return first, torch.minimum(first + 1, length - 1), low - first
