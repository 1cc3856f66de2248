"""Commands behind every figure in README and docs."""

from cssegcore.runtime.threads import limit_spinning

limit_spinning()  # as in every stage
