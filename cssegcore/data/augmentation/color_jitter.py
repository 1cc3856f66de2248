"""Random brightness, contrast, saturation and hue, each within a range and in random order.

Formulas and ranges are those of torchvision's `ColorJitter` for float images:
https://docs.pytorch.org/vision/stable/generated/torchvision.transforms.v2.ColorJitter.html.
"""

import dataclasses
from typing import final

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from cssegcore.core.ranges import non_negative, within
from cssegcore.data.augmentation._base import Transform

CONTRAST, SATURATION, HUE = 1, 2, 3
"""Number of each change, brightness being 0, in the order of the attributes."""


@final
@dataclasses.dataclass(frozen=True)
class ColorJitter(Transform):
    """Changes brightness, contrast, saturation and hue, in an order drawn for each image.

    The first three blend a photograph with black, with its mean grey, and with its own grey values:
    `f x + (1 - f) other`, cut off at 0 and 255, with f uniform in [max(0, 1 - a), 1 + a]. Hue turns
    by a part of the colour circle that is uniform in [-a, a].

    Attributes:
        brightness: The a of brightness; 0 leaves it as it is, also below.
        contrast: The a of contrast.
        saturation: The a of saturation.
        hue: The a of hue, 0.5 at most.
    """

    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        non_negative(brightness=self.brightness, contrast=self.contrast)
        non_negative(saturation=self.saturation)
        within(0, 0.5, hue=self.hue)

    def draw(self, count: int, rng: np.random.Generator) -> Float[np.ndarray, "b 8"]:
        """Draws three factors, the turn of the hue, and the order of the four changes."""
        reach = np.array([self.brightness, self.contrast, self.saturation])
        factors = rng.uniform(np.maximum(0, 1 - reach), 1 + reach, (count, 3))
        turns = rng.uniform(-self.hue, self.hue, (count, 1))
        orders = rng.permuted(np.tile(np.arange(4.0), (count, 1)), axis=1)
        return np.concatenate([factors, turns, orders], 1)

    def apply(
        self,
        images: Float[Tensor, "b 3 s s"],
        labels: Int[Tensor, "m b s s"],
        numbers: Float[Tensor, "b 8"],
        padding: Int[Tensor, " b"] | None,
    ) -> tuple[Float[Tensor, "b 3 s s"], Int[Tensor, "m b s s"]]:
        turns, factors = numbers[:, 3, None, None, None], numbers[:, :4].clone()
        factors[:, HUE] = 1  # blended by 1 an image stays as it is
        for change in numbers[:, 4:].long().unbind(1):
            blended = _blended(images, factors.gather(1, change[:, None])[..., None, None], change)
            if self.hue:
                turned = change[:, None, None, None] == HUE
                blended = torch.where(turned, _turned(images, turns), blended)
            images = blended
        return images, labels


def _grey(images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 1 h w"]:
    red, green, blue = images.split(1, 1)
    return 0.2989 * red + 0.587 * green + 0.114 * blue


def _blended(
    images: Float[Tensor, "b 3 h w"], factors: Float[Tensor, "b 1 1 1"], change: Int[Tensor, " b"]
) -> Float[Tensor, "b 3 h w"]:
    """Blends each image with black, or with the grey mean or grey image of its change."""
    change, grey = change[:, None, None, None], _grey(images)
    # in float64, so that the mean of an image is the same in a batch of any length
    mean = grey.double().mean((1, 2, 3), keepdim=True).float()
    other = torch.where(change == CONTRAST, mean, torch.where(change == SATURATION, grey, 0.0))
    return (factors * images + (1 - factors) * other).clamp(0, 255)


def _turned(
    images: Float[Tensor, "b 3 h w"], turns: Float[Tensor, "b 1 1 1"]
) -> Float[Tensor, "b 3 h w"]:
    """Turns the hue; value and saturation (HSV) stay.

    With V the largest and C the range of a pixel's colours, and h its hue in sixths of the circle,
    red, green and blue are V - C max(0, min(k, 4 - k, 1)), k = (n + h) mod 6, n = 5, 3, 1.
    """
    high, low = images.amax(1, keepdim=True), images.amin(1, keepdim=True)
    chroma = high - low
    normalizer = torch.where(chroma == 0, 1.0, chroma)
    red, green, blue = images.split(1, 1)
    third = torch.where(
        high == green, 2 + (blue - red) / normalizer, 4 + (red - green) / normalizer
    )
    hue = torch.where(high == red, (green - blue) / normalizer, third) + 6 * turns
    starts = torch.arange(5, 0, -2, device=images.device)[:, None, None]
    k = (starts + hue) % 6
    return high - chroma * torch.minimum(k, 4 - k).clamp(0, 1)
