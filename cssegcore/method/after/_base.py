"""Interface of a rule for trained weights."""

import abc
from typing import ClassVar

from cssegcore.core.tensors import Tensors


class After(abc.ABC):
    """Acts once, after the last epoch of an increment and before the model is saved and tested.

    Attributes:
        needs_old: Whether it reads the weights of the previous step's model.
    """

    needs_old: ClassVar[bool] = False

    @abc.abstractmethod
    def __call__(self, old: Tensors, new: Tensors, num_old: int, num_new: int) -> Tensors:
        """Computes the tensors to save; changes neither mapping.

        Args:
            old: Tensors of the old model, on the device of `new`; empty unless `needs_old`.
            new: Tensors of the network after its last epoch; has all names of `old`, and new heads.
            num_old: Classes of the previous model, background included, the unknown class not.
            num_new: Classes that the step added.

        Returns:
            A tensor for each name of `new`, of its shape and dtype.
        """
