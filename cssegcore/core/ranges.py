"""Checks of a recipe's numbers, in one wording; each takes numbers by their keys.

All raise ValueError, which `core.config.parse` turns into an error that names where the key stands.
"""

import math

Number = int | float


def non_negative(**numbers: Number) -> None:
    """Checks that each number is finite and at least 0."""
    for key, value in numbers.items():
        if not 0 <= value < math.inf:
            raise ValueError(f"`{key}` must be a finite number >= 0, got {value}")


def positive(**numbers: Number) -> None:
    """Checks that each number is finite and above 0."""
    for key, value in numbers.items():
        if not 0 < value < math.inf:
            raise ValueError(f"`{key}` must be a finite number > 0, got {value}")


def at_least(least: int, **numbers: int) -> None:
    """Checks that each count is at least `least`."""
    for key, value in numbers.items():
        if value < least:
            raise ValueError(f"`{key}` must be >= {least}, got {value}")


def within(low: Number, high: Number, **numbers: Number) -> None:
    """Checks that each number lies in [low, high]."""
    for key, value in numbers.items():
        if not low <= value <= high:
            raise ValueError(f"`{key}` must lie in [{low}, {high}], got {value}")


def fraction(**numbers: Number) -> None:
    """Checks that each number lies in [0, 1]."""
    within(0, 1, **numbers)
