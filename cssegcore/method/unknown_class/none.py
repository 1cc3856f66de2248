"""No unknown class: all pixels without a class are background."""

import dataclasses
from typing import ClassVar, final

import numpy as np
from jaxtyping import Bool, UInt8

from cssegcore.method.unknown_class._base import Unknown


@final
@dataclasses.dataclass(frozen=True)
class NoUnknown(Unknown):
    """Labels are network outputs already."""

    present: ClassVar[bool] = False
    maps = "auto"

    def relabel(
        self, labels: UInt8[np.ndarray, "h w"], salient: Bool[np.ndarray, "h w"] | None
    ) -> UInt8[np.ndarray, "h w"]:
        del salient
        return labels
