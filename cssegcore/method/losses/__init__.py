"""Loss terms: one module a term, found by name. A loss sees tensors and nothing else."""

from cssegcore.method.losses._base import Loss as Loss
from cssegcore.method.losses._base import Pass as Pass
from cssegcore.method.losses._base import Penalty as Penalty
from cssegcore.method.losses._base import Term as Term
from cssegcore.method.losses._base import Weights as Weights
