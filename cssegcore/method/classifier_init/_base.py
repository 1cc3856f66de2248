"""What an initialisation may touch."""

import abc
from collections.abc import Sequence
from typing import ClassVar

from cssegcore.models.heads import Head


class ClassifierInit(abc.ABC):
    """Sets the weights of a freshly grown head.

    Attributes:
        needs_unknown: Whether it expects the groups [unknown, background, classes...].
        needs_auxiliary: Whether it expects an auxiliary output, the one row of the first head.
        expects_background_at_0: Whether it takes the first output of the first head for the
            background.
    """

    needs_unknown: ClassVar[bool] = False
    needs_auxiliary: ClassVar[bool] = False
    expects_background_at_0: ClassVar[bool] = False

    @abc.abstractmethod
    def __call__(self, heads: Sequence[Head]) -> None:
        """Changes `heads`, those of `Segmenter.groups`, in place; the last is new."""
