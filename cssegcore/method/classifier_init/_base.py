"""Interface of an initialisation of a new head."""

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
        epochs: Number of epochs that train the new head alone before the step's own training.
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
        """Changes `heads`, which are `Segmenter.groups`, in place; the last is new."""

    def tuning(self, heads: Sequence[Head]) -> Tuning:
        """Returns the tuning of these epochs; only called if there are any.

        Args:
            heads: The argument of `__call__`; `Tuning.install` changes them in place.
        """
        raise NotImplementedError(f"{type(self).__name__} has no epochs")
