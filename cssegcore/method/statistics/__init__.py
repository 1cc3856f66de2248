"""Statistics that a training hands to the next step: one module a statistic, found by name."""

from cssegcore.method.statistics._base import Accumulator as Accumulator
from cssegcore.method.statistics._base import LabelledOutputs as LabelledOutputs
from cssegcore.method.statistics._base import Statistic as Statistic
from cssegcore.method.statistics._base import StatisticContext as StatisticContext
