"""Meanings of a network's output 0 ("none of the classes" in labels): one module a rule."""

from cssegcore.method.background._base import BackgroundRule as BackgroundRule
