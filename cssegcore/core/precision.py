"""Numbers that exponentials and sums may be taken of."""

import torch
from torch import Tensor


def at_least_float32(values: Tensor) -> Tensor:
    """Returns `values` in float32 or better: halves become float32, float64 stays."""
    return values.to(torch.promote_types(values.dtype, torch.float32))
