"""What a freezing rule does."""

import abc
from collections.abc import Mapping
from typing import ClassVar

from cssegcore.models.segmenter import Segmenter


class Freeze(abc.ABC):
    """Acts once before training, on a network that has its new head.

    Attributes:
        freezes_extractor: Whether the features stand still, so that terms on features change
            nothing.
        needs_unknown: Whether it expects the head groups [unknown, background, classes...].
    """

    freezes_extractor: ClassVar[bool] = False
    needs_unknown: ClassVar[bool] = False

    @abc.abstractmethod
    def __call__(self, segmenter: Segmenter) -> Mapping[str, float]:
        """Freezes weights (`requires_grad`) and normalisation (`Segmenter.hold`) in place.

        Returns:
            What the learning rate of a weight is multiplied by, by the weight's name; 1 for all
            that are not named.
        """
