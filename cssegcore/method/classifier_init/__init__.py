"""Rules that set the first weights of a new head: one module a rule, found by name."""

from cssegcore.method.classifier_init._base import ClassifierInit as ClassifierInit
from cssegcore.method.classifier_init._tuning import Tuning as Tuning
