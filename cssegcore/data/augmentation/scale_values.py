"""Random scaling and shifting of pixel values."""

import dataclasses
from typing import final

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from cssegcore.data.augmentation._base import Transform


@final
@dataclasses.dataclass(frozen=True)
class ScaleValues(Transform):
    """Turns each pixel value v of 0 to 255 into `gain v + offset`, cut off at 0 and 255.

    Labels stay.

    Attributes:
        gain: Smallest and largest factor, drawn uniformly.
        offset: Smallest and largest summand, in pixel values, drawn uniformly.
        per_channel: Whether red, green and blue have numbers of their own.
    """

    gain: tuple[float, float] = (1.0, 1.0)
    offset: tuple[float, float] = (0.0, 0.0)
    per_channel: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        low, high = self.gain
        if not 0 <= low <= high < float("inf"):
            raise ValueError(f"`gain` must be 0 <= low <= high, got {low}, {high}")
        low, high = self.offset
        if not -255 <= low <= high <= 255:
            raise ValueError(f"`offset` must be -255 <= low <= high <= 255, got {low}, {high}")

    def draw(self, count: int, rng: np.random.Generator) -> Float[np.ndarray, "b k"]:
        """Draws the gains, then the offsets: one of each, or one for each colour."""
        size = (count, 3 if self.per_channel else 1)
        return np.concatenate([rng.uniform(*self.gain, size), rng.uniform(*self.offset, size)], 1)

    def apply(
        self,
        images: Float[Tensor, "b 3 s s"],
        labels: Int[Tensor, "m b s s"],
        numbers: Float[Tensor, "b k"],
        padding: Int[Tensor, " b"] | None,
    ) -> tuple[Float[Tensor, "b 3 s s"], Int[Tensor, "m b s s"]]:
        gain, offset = numbers[..., None, None].chunk(2, 1)
        return (gain * images + offset).clamp(0, 255), labels
