"""The MiB family's crop: a random area and aspect, brought to the training size, and a flip."""

import dataclasses
import math
from typing import final

import numpy as np
from numpy.typing import NDArray

from cssegcore.core.ranges import at_least, fraction
from cssegcore.data.augmentation._base import CropRule, Crops

ATTEMPTS = 10


@final
@dataclasses.dataclass(frozen=True)
class RandomResizedCrop(CropRule):
    """Draws boxes of random area and aspect until one fits into the image.

    `area` is a share of the image, so the family's (0.5, 2.0) never zooms out: boxes larger than
    the image are drawn again. After ten misses the view is the largest central box whose aspect is
    allowed.

    Attributes:
        size: Height and width of the views, in pixels.
        area: Smallest and largest share of the image's area.
        aspect: Smallest and largest width over height, drawn log-uniformly.
        flip: Probability of a mirror image.
    """

    size: int = 512
    area: tuple[float, float] = (0.5, 2.0)
    aspect: tuple[float, float] = (3 / 4, 4 / 3)
    flip: float = 0.5

    def __post_init__(self) -> None:
        at_least(1, size=self.size)
        for name, (low, high) in (("area", self.area), ("aspect", self.aspect)):
            if not 0 < low <= high:
                raise ValueError(f"`{name}` must be 0 < low <= high, got {low}, {high}")
        if self.area[0] > 1:
            raise ValueError(f"`area` starts at {self.area[0]}: no such box fits, start below 1")
        fraction(flip=self.flip)

    def draw(self, sizes: NDArray[np.int64], rng: np.random.Generator) -> Crops:
        boxes = np.array([self._box(int(h), int(w), rng) for h, w in sizes], np.float64)
        return Crops(boxes.reshape(-1, 4), rng.random(len(sizes)) < self.flip)

    def _box(self, height: int, width: int, rng: np.random.Generator) -> tuple[int, ...]:
        for _ in range(ATTEMPTS):
            area = height * width * rng.uniform(self.area[0], self.area[1])
            aspect = math.exp(rng.uniform(math.log(self.aspect[0]), math.log(self.aspect[1])))
            w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
            if 0 < w <= width and 0 < h <= height:
                top = int(rng.integers(0, height - h + 1))
                return top, int(rng.integers(0, width - w + 1)), h, w
        aspect = min(max(width / height, self.aspect[0]), self.aspect[1])
        h = min(height, round(width / aspect))
        w = min(width, round(height * aspect))
        return (height - h) // 2, (width - w) // 2, h, w
