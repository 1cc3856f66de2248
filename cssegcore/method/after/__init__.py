"""What becomes of the weights once a step has been trained: one module a rule, found by name."""

from cssegcore.method.after._base import After as After
