"""Rules that split a class "unknown" off the background: one module a rule, found by name."""

from cssegcore.method.unknown_class._base import Unknown as Unknown
