"""What an initialisation may touch."""

import abc
from collections.abc import Sequence
from typing import ClassVar

from cssegcore.method.classifier_init._tuning import Tuning
from cssegcore.models.heads import Head


class ClassifierInit(abc.ABC):
    """Sets the weights of a freshly grown head.

    Attributes:
        needs_unknown: Whether it expects the groups [unknown, background, classes...].
        needs_auxiliary: Whether it expects an auxiliary output, the one row of the first head.
        needs_linear_heads: Whether every head must be its 1x1 classifier and nothing else.
        expects_background_at_0: Whether it takes the first output of the first head for the
            background.
        epochs: How many epochs the new head is trained alone before the step's own training; 0: not
            at all.
        lr: Learning rate at the first iteration of those epochs.
    """

    needs_unknown: ClassVar[bool] = False
    needs_auxiliary: ClassVar[bool] = False
    needs_linear_heads: ClassVar[bool] = False
    expects_background_at_0: ClassVar[bool] = False
    epochs: int = 0
    lr: float = 0.0

    @abc.abstractmethod
    def __call__(self, heads: Sequence[Head]) -> None:
        """Changes `heads`, those of `Segmenter.groups`, in place; the last is new."""

    def tuning(self, heads: Sequence[Head]) -> Tuning:
        """Returns what is trained in those epochs; only asked of a part that has some.

        Args:
            heads: As in `__call__`; `Tuning.install` changes them in place.
        """
        raise NotImplementedError(f"{type(self).__name__} has no epochs")
