"""Random rotation of photographs and labels."""

import dataclasses
from typing import final

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from cssegcore.core.ranges import within
from cssegcore.data.augmentation._base import Transform
from cssegcore.data.resample import resample


@final
@dataclasses.dataclass(frozen=True)
class Rotation(Transform):
    """Turns each crop about its centre: bilinear for photographs, nearest for labels.

    The size stays, so corners are turned out of the crop, and others come in that hold nothing:
    they are void there, or padded as the rule that crops pads.

    Attributes:
        degrees: Largest angle, to the left or to the right; drawn uniformly.
    """

    degrees: float = 10.0

    def __post_init__(self) -> None:
        super().__post_init__()
        within(0, 180, degrees=self.degrees)

    def draw(self, count: int, rng: np.random.Generator) -> Float[np.ndarray, "b 2"]:
        """Draws cosine and sine of the angle; to the left is positive."""
        angles = np.deg2rad(rng.uniform(-self.degrees, self.degrees, count))
        return np.stack([np.cos(angles), np.sin(angles)], 1)

    def apply(
        self,
        images: Float[Tensor, "b 3 s s"],
        labels: Int[Tensor, "m b s s"],
        numbers: Float[Tensor, "b 2"],
        padding: Int[Tensor, " b"] | None,
    ) -> tuple[Float[Tensor, "b 3 s s"], Int[Tensor, "m b s s"]]:
        count, _, size, _ = images.shape
        middle = (size - 1) / 2
        steps = torch.arange(size, device=images.device) - middle
        y, x = steps[:, None], steps[None, :]
        cosine, sine = numbers[:, :, None, None].unbind(1)
        seen, turned = resample(
            images.permute(0, 2, 3, 1),
            labels.permute(1, 2, 3, 0),
            torch.full((count, 2), size, device=images.device),
            cosine * y + sine * x + middle,
            cosine * x - sine * y + middle,
            padding,
        )
        return seen.permute(0, 3, 1, 2), turned
