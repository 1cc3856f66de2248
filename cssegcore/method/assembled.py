"""A recipe with its parts, as the compatibility rules read it."""

from collections.abc import Iterator
from dataclasses import dataclass

from cssegcore.method.method import Method, Recipe
from cssegcore.method.pseudo_labels import PseudoLabels


@dataclass(frozen=True)
class AssembledRecipe:
    """A recipe with all its parts built."""

    recipe: Recipe
    base: Method
    increment: Method
    pseudo_labels: PseudoLabels

    @property
    def labels_nothing(self) -> bool:
        """Whether there are no pseudo-labels."""
        return self.pseudo_labels.scores is None

    def phases(self) -> Iterator[tuple[str, Method]]:
        """Yields the base step and the increments with the key of their section."""
        yield "method.base", self.base
        yield "method", self.increment
