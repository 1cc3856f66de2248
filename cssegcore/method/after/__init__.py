"""Rules that change the weights after a step's training: one module a rule, found by name."""

from cssegcore.method.after._base import After as After
