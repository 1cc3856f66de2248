"""A view is a box of a photograph, brought to the training size and perhaps mirrored.

Rules only draw boxes, on the host; `cssegcore.data.crop_and_resize` cuts them on the training
device for photographs and labels together. A rule that scales and pads draws a box that leaves the
image.
"""

import abc
import dataclasses
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray


@dataclasses.dataclass(frozen=True)
class Crops:
    """One view for each of b images.

    Attributes:
        boxes: top, left, height, width in source pixels, float64, shape (b, 4).
        flips: Whether the view is mirrored left-right, shape (b,).
    """

    boxes: NDArray[np.float64]
    flips: NDArray[np.bool_]


class Augmentation(abc.ABC):
    """Draws views.

    Attributes:
        size: Height and width of every view, in pixels.
        pads: Whether a photograph is padded with black background that is trained on. If not, what
            a box adds to it is ignored.
    """

    size: int
    pads: ClassVar[bool] = False

    @abc.abstractmethod
    def draw(self, sizes: NDArray[np.int64], rng: np.random.Generator) -> Crops:
        """Draws a view for each image of the given heights and widths, shape (b, 2)."""
