"""Optimizers, one file each: `optimizer: {part: sgd, …}` names `sgd.py`."""

from cssegcore.training.optimizer._base import Optimizer as Optimizer
