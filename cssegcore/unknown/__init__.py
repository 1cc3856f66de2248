"""Whether a class "unknown" is split off the background: one module a rule, found by name."""

from cssegcore.unknown._base import Unknown as Unknown
