"""What a training gathers and hands to the next step: one module a statistic, found by name."""

from cssegcore.method.statistics._base import Gathering as Gathering
from cssegcore.method.statistics._base import Scene as Scene
from cssegcore.method.statistics._base import Statistic as Statistic
