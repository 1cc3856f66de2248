"""Rules of pseudo-labelling with the previous model: one module a rule, found by name."""

from cssegcore.method.pseudo_labels._base import LabelRequest as LabelRequest
from cssegcore.method.pseudo_labels._base import PseudoLabels as PseudoLabels
