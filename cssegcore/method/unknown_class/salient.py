"""SSUL's unknown class: salient background, which may be a class still to come.

Cha et al., SSUL: Semantic Segmentation with Unknown Label for Exemplar-based Class-Incremental
Learning, NeurIPS 2021, https://arxiv.org/abs/2106.11562.
"""

import dataclasses
from typing import ClassVar, final

import numpy as np
from jaxtyping import Bool, UInt8

from cssegcore.core.types import BACKGROUND, IGNORE
from cssegcore.method.unknown_class._base import Unknown
from cssegcore.saliency import Origin


@final
@dataclasses.dataclass(frozen=True)
class Salient(Unknown):
    """Salient background is unknown, the rest stays background.

    Attributes:
        maps: Source of the saliency maps; see `Origin`.
    """

    maps: Origin = "auto"

    present: ClassVar[bool] = True
    by_saliency: ClassVar[bool] = True

    def relabel(
        self, labels: UInt8[np.ndarray, "h w"], salient: Bool[np.ndarray, "h w"] | None
    ) -> UInt8[np.ndarray, "h w"]:
        assert salient is not None, "the label rule reads saliency for rules that look at it"
        unknown = (labels == BACKGROUND) & salient
        return labels + ((labels != IGNORE) & ~unknown)
