"""Loss terms: one module a term, found by name. A loss sees tensors and nothing else."""

from cssegcore.losses._base import Loss as Loss
from cssegcore.losses._base import Pass as Pass
from cssegcore.losses._base import Penalty as Penalty
from cssegcore.losses._base import Term as Term
from cssegcore.losses._base import Weights as Weights
