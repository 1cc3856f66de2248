"""What a network's output 0 is, where labels say "none of the classes": one module a rule."""

from cssegcore.method.background._base import BackgroundRule as BackgroundRule
