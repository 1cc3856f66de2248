"""Rules that choose the frozen weights of a step: one module a rule, found by name."""

from cssegcore.method.freeze._base import Freeze as Freeze
