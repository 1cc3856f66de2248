"""Which weights of a step stand still: one module a rule, found by name."""

from cssegcore.method.freeze._base import Freeze as Freeze
