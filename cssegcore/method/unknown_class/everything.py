"""SSUL's unknown class on ADE20K: all background, which may be a class still to come.

Cha et al., SSUL: Semantic Segmentation with Unknown Label for Exemplar-based Class-Incremental
Learning, NeurIPS 2021, https://arxiv.org/abs/2106.11562.
"""

import dataclasses
from typing import ClassVar, final

import numpy as np
from jaxtyping import Bool, UInt8

from cssegcore.core.types import BACKGROUND, IGNORE
from cssegcore.method.unknown_class._base import Unknown


@final
@dataclasses.dataclass(frozen=True)
class Everything(Unknown):
    """All background is labelled unknown, so the background output gets no positive pixel."""

    present: ClassVar[bool] = True

    def relabel(
        self, labels: UInt8[np.ndarray, "h w"], salient: Bool[np.ndarray, "h w"] | None
    ) -> UInt8[np.ndarray, "h w"]:
        del salient
        return labels + ((labels != BACKGROUND) & (labels != IGNORE))
