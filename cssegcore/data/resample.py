"""Reading photographs and labels at places between pixels, on the device, for a whole batch."""

import torch
from jaxtyping import Bool, Float, Int, Integer, Real
from torch import Tensor

from cssegcore.core.types import IGNORE


def resample(
    photographs: Real[Tensor, "b h w 3"],
    labels: Integer[Tensor, "b h w m"],
    sizes: Int[Tensor, "b 2"],
    ys: Float[Tensor, "b rows #columns"],
    xs: Float[Tensor, " b #rows columns"],
    padding: Int[Tensor, " b"] | None,
) -> tuple[Float[Tensor, "b rows columns 3"], Int[Tensor, "m b rows columns"]]:
    """Reads each image at given places: photographs bilinearly, labels by the nearest pixel.

    Args:
        photographs: Values 0 to 255; images may be padded at the bottom and right to one size.
        labels: m label maps of each image, padded alike.
        sizes: True height and width of each image.
        ys: Row of each target pixel, in source pixels; pixel k has its centre at k.
        xs: Column of each target pixel. Rows and columns are broadcast against each other.
        padding: Label of each image where a place lies outside of it, in all its maps; the
            photograph is black there. If left out the label is 255, and the photograph repeats its
            border.

    Returns:
        Photographs, values 0 to 255, and int64 labels.
    """
    rows, columns = sizes[:, 0, None, None], sizes[:, 1, None, None]
    one = torch.arange(len(photographs), device=photographs.device)[:, None, None]

    near = labels[one, _near(ys, rows), _near(xs, columns)].long()
    outside = _outside(ys, rows) | _outside(xs, columns)
    added = IGNORE if padding is None else padding[:, None, None, None]
    near = torch.where(outside[..., None], added, near).permute(3, 0, 1, 2)

    (y0, y1, wy), (x0, x1, wx) = _neighbours(ys, rows), _neighbours(xs, columns)
    wy, wx = wy[..., None], wx[..., None]
    top = torch.lerp(photographs[one, y0, x0].float(), photographs[one, y0, x1].float(), wx)
    low = torch.lerp(photographs[one, y1, x0].float(), photographs[one, y1, x1].float(), wx)
    seen = torch.lerp(top, low, wy)
    if padding is not None:
        seen = torch.where(outside[..., None], 0.0, seen)
    return seen, near


def _near(at: Float[Tensor, "b r c"], length: Int[Tensor, "b 1 1"]) -> Int[Tensor, "b r c"]:
    return torch.minimum((at + 0.5).floor().long().clamp(min=0), length - 1)


def _outside(at: Float[Tensor, "b r c"], length: Int[Tensor, "b 1 1"]) -> Bool[Tensor, "b r c"]:
    return (at < -0.5) | (at >= length - 0.5)


def _neighbours(
    at: Float[Tensor, "b r c"], length: Int[Tensor, "b 1 1"]
) -> tuple[Int[Tensor, "b r c"], Int[Tensor, "b r c"], Float[Tensor, "b r c"]]:
    low = torch.minimum(at.clamp(min=0), (length - 1).float())
    first = low.floor().long()
    return first, torch.minimum(first + 1, length - 1), low - first
