"""What an initialisation may touch."""

import abc
from collections.abc import Sequence

from torch import nn


class ClassifierInit(abc.ABC):
    """Sets the weights of a freshly grown head."""

    @abc.abstractmethod
    def __call__(self, heads: Sequence[nn.Conv2d]) -> None:
        """Changes `heads` in place: 1x1 classifiers, the first with the background, last new."""
