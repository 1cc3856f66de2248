"""A method is a recipe: parts named in data, put together here, and nowhere compared by name."""

import dataclasses
from collections.abc import Mapping
from typing import Literal

from cssegcore.classifier_init import ClassifierInit
from cssegcore.errors import InputError
from cssegcore.losses import Loss
from cssegcore.parts import make_part, part_module
from cssegcore.strict import build

SLOTS = {
    "losses": "cssegcore.losses",
    "classifier_init": "cssegcore.classifier_init",
    "pseudo_labels": "cssegcore.pseudo_labels",
    "replay": "cssegcore.replay",
}
"""The slots of a recipe and the packages that hold their parts."""

PartRecipe = dict[str, object]

COLUMNS = ("epoch", "lr", "loss")
"""What the curve of a training says beside its terms."""


@dataclasses.dataclass(frozen=True)
class BaseRecipe:
    """`method.base`: which slots act in the base step."""

    losses: dict[str, PartRecipe]


@dataclasses.dataclass(frozen=True)
class Recipe:
    """`method`: the slots of the incremental steps, and what the base step does.

    Attributes:
        name: What reports call the method; nothing else reads it.
        images: Which list a step trains on: its own (`train`), or all so far with all their
            classes annotated (`seen`).
        start: Whether a step starts from the `previous` model or from `scratch`.
        base: The base step.
        losses: Terms of the objective by name.
        classifier_init: How a new head starts.
        pseudo_labels: What the previous model adds to the labels.
        replay: What is seen of earlier steps.
    """

    name: str
    images: Literal["train", "seen"]
    start: Literal["previous", "scratch"]
    base: BaseRecipe
    losses: dict[str, PartRecipe]
    classifier_init: PartRecipe
    pseudo_labels: PartRecipe
    replay: PartRecipe

    @classmethod
    def of(cls, values: Mapping[str, object]) -> "Recipe":
        """Checks the keys of the section `method`; `Method.of` checks its parts."""
        return build(cls, values, "method")


@dataclasses.dataclass(frozen=True)
class Method:
    """The parts that act in a step."""

    losses: Mapping[str, Loss]
    classifier_init: ClassifierInit
    from_scratch: bool

    @classmethod
    def of(cls, recipe: Recipe) -> "Method":
        """Builds the parts of the incremental steps.

        Raises:
            InputError: A part is unknown or its numbers are refused, or the recipe makes no sense.
        """
        losses = _losses(recipe.losses, "method.losses")
        where = "method.classifier_init"
        start = make_part(SLOTS["classifier_init"], ClassifierInit, recipe.classifier_init, where)
        from_scratch = recipe.start == "scratch"
        old = [name for name, loss in losses.items() if loss.needs_old]
        if from_scratch and old:
            raise InputError(
                f"`method.losses.{old[0]}` compares with the previous model, which `method.start:"
                " scratch` leaves out: set `method.start: previous` or drop the term."
            )
        return cls(losses, start, from_scratch)

    @classmethod
    def of_base(cls, recipe: BaseRecipe) -> "Method":
        """Builds the parts of the base step, which has no model before it.

        Raises:
            InputError: As `of`, or a term needs a previous model.
        """
        losses = _losses(recipe.losses, "method.base.losses")
        if old := [name for name, loss in losses.items() if loss.needs_old]:
            raise InputError(
                f"`method.base.losses.{old[0]}` compares with a previous model, and the base step"
                " has none: use it in `method.losses`."
            )
        as_built = make_part(SLOTS["classifier_init"], ClassifierInit, {"part": "none"}, "")
        return cls(losses, as_built, from_scratch=True)


def _losses(recipes: Mapping[str, PartRecipe], where: str) -> dict[str, Loss]:
    if not recipes:
        raise InputError(f"`{where}` is empty: name at least one term, such as `ce: {{part: ce}}`.")
    if taken := [name for name in recipes if name in COLUMNS]:
        raise InputError(
            f"`{where}.{taken[0]}`: {taken[0]!r} is a column of the curve already; give the term"
            " another name."
        )
    return {
        name: make_part(SLOTS["losses"], Loss, recipe, f"{where}.{name}")
        for name, recipe in recipes.items()
    }


def base_modules(recipe: BaseRecipe) -> list[str]:
    """Lists the modules of the parts that the base step uses."""
    as_built = part_module(SLOTS["classifier_init"], {"part": "none"}, "")
    return [*_modules("losses", recipe.losses, "method.base.losses"), as_built]


def recipe_modules(recipe: Recipe) -> list[str]:
    """Lists the modules of the parts that the training of an incremental step uses."""
    where = "method.classifier_init"
    start = part_module(SLOTS["classifier_init"], recipe.classifier_init, where)
    return [*_modules("losses", recipe.losses, "method.losses"), start]


def _modules(slot: str, recipes: Mapping[str, PartRecipe], where: str) -> list[str]:
    return [part_module(SLOTS[slot], r, f"{where}.{name}") for name, r in recipes.items()]
