"""Optimizers, one file each: `optimizer: {part: sgd, …}` names `sgd.py`."""

from collections.abc import Mapping

from cssegcore.core.errors import InputError
from cssegcore.core.registry import build_part
from cssegcore.training.optimizer._base import Groups as Groups
from cssegcore.training.optimizer._base import Optimizer as Optimizer
from cssegcore.training.optimizer._base import Updater as Updater
from cssegcore.training.optimizer._base import group_weights as group_weights

OPTIMIZERS = __name__


def build_optimizer(section: object) -> Optimizer:
    """Builds the optimizer that the section `optimizer` of the parameters names.

    Raises:
        InputError: The section names no part or an unknown one, or a number is refused.
    """
    if isinstance(section, Mapping) and "part" not in section:
        raise InputError(
            "`optimizer.part` is missing: set `optimizer.part: sgd`, which earlier parameter files"
            " meant, or another optimizer."
        )
    return build_part(OPTIMIZERS, Optimizer, section, "optimizer")
