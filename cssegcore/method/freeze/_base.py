"""Interface of a freezing rule."""

import abc
from collections.abc import Mapping
from typing import ClassVar

from cssegcore.core.types import UpdateFactors
from cssegcore.models.segmenter import Segmenter


class Freeze(abc.ABC):
    """Acts once before training, on a network that has its new head.

    Attributes:
        freezes_old: Whether it freezes weights that the previous step trained.
        freezes_extractor: Whether it freezes the extractor, so that terms on features change
            nothing.
        keeps_statistics: Whether normalisation keeps the running statistics of the previous step.
        needs_unknown: Whether it expects the head groups [unknown, background, classes...].
    """

    freezes_old: ClassVar[bool] = False
    freezes_extractor: ClassVar[bool] = False
    keeps_statistics: ClassVar[bool] = False
    needs_unknown: ClassVar[bool] = False

    @abc.abstractmethod
    def __call__(self, segmenter: Segmenter) -> Mapping[str, UpdateFactors]:
        """Freezes weights (`requires_grad`) and normalisation (`Segmenter.keep_eval`) in place.

        Returns:
            Factors of learning rate and weight decay by the weight's name; 1 for weights that are
            not named.
        """
