"""Loss terms: one module a term, found by name. A loss sees tensors and nothing else."""

from cssegcore.method.losses._base import Loss as Loss
from cssegcore.method.losses._base import LossInputs as LossInputs
from cssegcore.method.losses._base import Penalty as Penalty
from cssegcore.method.losses._base import PenaltyInputs as PenaltyInputs
from cssegcore.method.losses._base import Term as Term

RENAMED = {"maker_kd": "teacher_kd", "maker_mse": "teacher_mse"}
"""Parts that had another name; a recipe that uses it is told the new one."""
