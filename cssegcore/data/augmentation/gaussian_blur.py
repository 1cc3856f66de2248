"""Random Gaussian blur.

Kernel, border and ranges are those of torchvision's `GaussianBlur`:
https://docs.pytorch.org/vision/stable/generated/torchvision.transforms.v2.GaussianBlur.html.
"""

import dataclasses
from typing import final

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from cssegcore.data.augmentation._base import Transform


@final
@dataclasses.dataclass(frozen=True)
class GaussianBlur(Transform):
    """Blurs each photograph with a Gaussian of its own width; labels stay.

    The weights of the pixels at a distance d in a direction are exp(-d² / (2 sigma²)), divided by
    their sum. Outside of the crop its pixels are mirrored, the border pixel not repeated.

    Attributes:
        kernel: Number of pixels in each direction that are averaged; odd.
        sigma: Smallest and largest standard deviation, in pixels, drawn uniformly.
    """

    kernel: int = 5
    sigma: tuple[float, float] = (0.1, 2.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.kernel < 1 or self.kernel % 2 == 0:
            raise ValueError(f"`kernel` must be odd and >= 1 pixel, got {self.kernel}")
        low, high = self.sigma
        if not 0 < low <= high < float("inf"):
            raise ValueError(f"`sigma` must be 0 < low <= high, got {low}, {high}")

    def draw(self, count: int, rng: np.random.Generator) -> Float[np.ndarray, "b k"]:
        """Draws the weights of the pixels, one row an image."""
        sigma = rng.uniform(*self.sigma, (count, 1))
        distances = np.arange(self.kernel) - self.kernel // 2
        weights = np.exp(-(distances**2) / (2 * sigma**2))
        return weights / weights.sum(1, keepdims=True)

    def apply(
        self,
        images: Float[Tensor, "b 3 s s"],
        labels: Int[Tensor, "m b s s"],
        numbers: Float[Tensor, "b k"],
        padding: Int[Tensor, " b"] | None,
    ) -> tuple[Float[Tensor, "b 3 s s"], Int[Tensor, "m b s s"]]:
        weights = numbers[:, :, None, None, None].unbind(1)
        rows = _mirrored(images.shape[2], self.kernel // 2, images.device)
        columns = _mirrored(images.shape[3], self.kernel // 2, images.device)
        for dim, places in ((2, rows), (3, columns)):
            blurred = torch.zeros_like(images)
            for at, weight in enumerate(weights):
                read = places[at : at + images.shape[dim]]
                blurred = blurred + weight * images.index_select(dim, read)
            images = blurred
        return images.clamp(0, 255), labels  # the weights' sum is 1 up to rounding


def _mirrored(length: int, more: int, device: torch.device) -> Int[Tensor, " n"]:
    """Returns the pixels that lie from `-more` to `length + more`, mirrored into the image."""
    period = max(1, 2 * (length - 1))
    places = torch.arange(-more, length + more, device=device) % period
    return torch.minimum(places, period - places)
