"""The two kinds of rules: one cuts a crop out of a photograph, the others change crops.

Rules draw their random numbers on the host, from the generator of the epoch; the pixels are
computed on the training device, for a whole batch at once. So the numbers depend on seed, step and
epoch alone, and several processes that share a batch draw the same ones.
"""

import abc
import dataclasses
from typing import ClassVar

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from cssegcore.core.ranges import fraction


@dataclasses.dataclass(frozen=True)
class Crops:
    """One crop for each of b images.

    Attributes:
        boxes: top, left, height, width in source pixels, float64, shape (b, 4).
        flips: Whether the crop is mirrored left-right, shape (b,).
    """

    boxes: NDArray[np.float64]
    flips: NDArray[np.bool_]


class CropRule(abc.ABC):
    """Draws a box of each photograph, which is resized to the training size and may be mirrored.

    `cssegcore.data.crop_and_resize.crop_and_resize` cuts the boxes out of photographs and labels
    together. A rule that scales and pads draws a box that leaves the image.

    Attributes:
        size: Height and width of every crop, in pixels.
        pads: Whether a photograph is padded with black background that is trained on. If not, the
            labels of the border that a box adds are 255 (void).
    """

    size: int
    pads: ClassVar[bool] = False

    @abc.abstractmethod
    def draw(self, sizes: NDArray[np.int64], rng: np.random.Generator) -> Crops:
        """Draws a crop for each image of the given heights and widths, shape (b, 2)."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Transform(abc.ABC):
    """Changes the colours or the geometry of crops, before they are normalised.

    Attributes:
        probability: Share of the images that are changed; each is drawn by itself.
    """

    probability: float = 1.0

    def __post_init__(self) -> None:
        fraction(probability=self.probability)

    @abc.abstractmethod
    def draw(self, count: int, rng: np.random.Generator) -> Float[np.ndarray, "b k"]:
        """Draws the k random numbers of each of `count` images; `apply` gets them as float32."""

    @abc.abstractmethod
    def apply(
        self,
        images: Float[Tensor, "b 3 s s"],
        labels: Int[Tensor, "m b s s"],
        numbers: Float[Tensor, "b k"],
        padding: Int[Tensor, " b"] | None,
    ) -> tuple[Float[Tensor, "b 3 s s"], Int[Tensor, "m b s s"]]:
        """Changes a batch on its device. Images are changed independently of each other.

        Args:
            images: RGB photographs, values 0 to 255.
            labels: m label maps of each image. A rule of colours returns them as they are; a
                geometric one moves them with the photographs and never mixes two values.
            numbers: The numbers that `draw` gave for these images.
            padding: Label of the pixels that lie outside of the crop, whose photograph is black
                there. If left out the label is 255, and the photograph repeats its border.

        Returns:
            Photographs, values 0 to 255, and labels, of the same shapes and types.
        """
