"""SSUL's crop: the whole photograph is scaled, padded where it is too small, cropped, and flipped.

Cha et al., SSUL: Semantic Segmentation with Unknown Label for Exemplar-based Class-Incremental
Learning, NeurIPS 2021, https://arxiv.org/abs/2106.11562; released code clovaai/SSUL,
utils/ext_transforms.py (ExtRandomScale, ExtRandomCrop with `pad_if_needed`).
"""

import dataclasses
from typing import ClassVar, final

import numpy as np
from numpy.typing import NDArray

from cssegcore.core.ranges import at_least, fraction
from cssegcore.data.augmentation._base import CropRule, Crops


@final
@dataclasses.dataclass(frozen=True)
class ScaleAndCrop(CropRule):
    """Draws a square of `size` pixels somewhere in the scaled and padded photograph.

    A photograph of h by w pixels is scaled to h' = int(h s) by w' = int(w s). Where w' < size, the
    release pads all four sides by p = ceil((size - w') / 2), the height as well; where h' + 2p is
    still less than size, all four sides again, by q = ceil((size - h' - 2p) / 2). The corner of
    the crop is then uniform in what the padded photograph has room for. Counted from the scaled
    photograph's own corner, that is

        top in {-(p + q), ..., h' + p + q - size},  left in {-(p + q), ..., w' + p + q - size},

    one range of p + q for both directions: a wide photograph that is only too low moves under the
    crop beyond its left and right edge too, and a crop may hold no padding on a side that is long
    enough. A box of source pixels is the crop times h / h' and w / w'.

    Deviation: photographs are read bilinearly where they are made smaller too, without the wider
    filter of Pillow's `resize`.

    Attributes:
        size: Height and width of the views, in pixels.
        scale: Smallest and largest scale of the photograph, drawn uniformly.
        flip: Probability of a mirror image.
        shorter_side: Shorter side that every photograph is brought to before it is scaled, in
            pixels (MBS: 512); None: its own.
    """

    size: int = 513
    scale: tuple[float, float] = (0.5, 2.0)
    flip: float = 0.5
    shorter_side: int | None = None

    pads: ClassVar[bool] = True

    def __post_init__(self) -> None:
        at_least(1, size=self.size)
        low, high = self.scale
        if not 0 < low <= high < float("inf"):
            raise ValueError(f"`scale` must be 0 < low <= high, got {low}, {high}")
        fraction(flip=self.flip)
        if self.shorter_side is not None:
            at_least(1, shorter_side=self.shorter_side)

    def draw(self, sizes: NDArray[np.int64], rng: np.random.Generator) -> Crops:
        scales = rng.uniform(*self.scale, (len(sizes), 1))
        scaled = np.maximum(1, (self._resized(sizes) * scales).astype(np.int64))
        added = self._added(scaled)
        corners = rng.integers(-added, scaled + added - self.size, endpoint=True)
        boxes = np.concatenate([corners, np.full_like(corners, self.size)], 1)
        return Crops(boxes * np.tile(sizes / scaled, 2), rng.random(len(sizes)) < self.flip)

    def _resized(self, sizes: NDArray[np.int64]) -> NDArray[np.int64]:
        """Returns the sizes, shape (b, 2), of which the scale is drawn."""
        if self.shorter_side is None:
            return sizes
        return self.shorter_side * sizes // sizes.min(1, keepdims=True)

    def _added(self, scaled: NDArray[np.int64]) -> NDArray[np.int64]:
        """Returns the pixels added on each side, shape (b, 1)."""
        height, width = scaled[:, :1], scaled[:, 1:]
        added = np.maximum(0, (1 + self.size - width) // 2)
        return added + np.maximum(0, (1 + self.size - height - 2 * added) // 2)
