"""Training has the last word."""

import dataclasses
from typing import final

from cssegcore.core.tensors import Tensors
from cssegcore.method.after._base import After


@final
@dataclasses.dataclass(frozen=True)
class AsTrained(After):
    """Keeps the weights as training left them."""

    def __call__(self, old: Tensors, new: Tensors, num_old: int, num_new: int) -> Tensors:
        del old, num_old, num_new
        return new
