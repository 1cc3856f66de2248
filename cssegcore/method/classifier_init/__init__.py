"""How the head of a new step starts: one module a rule, found by name."""

from cssegcore.method.classifier_init._base import ClassifierInit as ClassifierInit
from cssegcore.method.classifier_init._tuning import Tuning as Tuning
