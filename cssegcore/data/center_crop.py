"""The field's test images: the central square of a photograph brought to one height.

The released code of MiB, PLOP, SDR (512 pixels) and SSUL (513) tests on torchvision's `Resize` and
`CenterCrop` of Pillow images: fcdl94/MiB, run.py and dataset/transform.py.
"""

import dataclasses
from typing import final

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from cssegcore.data.dataset import Dataset


def central_crop(
    pixels: UInt8[np.ndarray, "h w *c"], size: int, filtering: Image.Resampling
) -> UInt8[np.ndarray, "s s *c"]:
    """Resizes the shorter side to `size` and cuts the square in the middle.

    Rounds as torchvision: the longer side is cut off to whole pixels, the square's corner rounded,
    halves to even.
    """
    height, width = pixels.shape[:2]
    shorter = min(height, width)
    tall, wide = int(size * height / shorter), int(size * width / shorter)
    resized = Image.fromarray(pixels)
    if shorter != size:
        resized = resized.resize((wide, tall), filtering)
    top, left = round((tall - size) / 2), round((wide - size) / 2)
    return np.asarray(resized)[top : top + size, left : left + size]


@final
@dataclasses.dataclass(frozen=True)
class CentralCrops(Dataset):
    """A dataset seen through central crops: photographs bilinear, labels nearest.

    Attributes:
        size: Height and width of every image, in pixels.
    """

    size: int = dataclasses.field(kw_only=True)

    @classmethod
    def of(cls, dataset: Dataset, size: int) -> "CentralCrops":
        """Returns `dataset`, every image cropped when it is read."""
        return cls(**vars(dataset), size=size)

    def photograph(self, name: str) -> UInt8[np.ndarray, "s s 3"]:
        return central_crop(super().photograph(name), self.size, Image.Resampling.BILINEAR)

    def image_size(self, name: str) -> tuple[int, int]:
        super().image_size(name)  # it must be there
        return self.size, self.size

    def label(self, name: str) -> UInt8[np.ndarray, "s s"]:
        return central_crop(super().label(name), self.size, Image.Resampling.NEAREST)
