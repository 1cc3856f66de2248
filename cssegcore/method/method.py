"""A method is a recipe: parts named in data, put together here, and nowhere compared by name."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

from cssegcore.core.config import parse
from cssegcore.core.errors import InputError
from cssegcore.core.registry import build_part, part_module
from cssegcore.core.types import Scores
from cssegcore.method.after import After
from cssegcore.method.background import BackgroundRule
from cssegcore.method.classifier_init import ClassifierInit
from cssegcore.method.freeze import Freeze
from cssegcore.method.losses import Loss, Penalty, Term
from cssegcore.method.replay import Replay
from cssegcore.method.statistics import Statistic
from cssegcore.method.unknown_class import Unknown
from cssegcore.models.heads import HeadKind

SLOTS = {
    "losses": "cssegcore.method.losses",
    "statistics": "cssegcore.method.statistics",
    "head": "cssegcore.models.heads",
    "unknown_class": "cssegcore.method.unknown_class",
    "background": "cssegcore.method.background",
    "classifier_init": "cssegcore.method.classifier_init",
    "freeze": "cssegcore.method.freeze",
    "after": "cssegcore.method.after",
    "pseudo_labels": "cssegcore.method.pseudo_labels",
    "replay": "cssegcore.method.replay",
}
"""The slots of a recipe and the packages that hold their parts."""

PartRecipe = dict[str, object]
NOTHING: PartRecipe = {"part": "none"}
LEARNED: PartRecipe = {"part": "argmax"}
"""The background of recipes that do not name one."""

LATER = ("classifier_init", "freeze", "after", "replay")
"""Slots that act on results of the previous step; the base step has none."""

AUXILIARY = "auxiliary"
"""Column of a curve for the losses of the auxiliary classifiers."""

_COLUMNS = ("epoch", "lr", "loss", AUXILIARY)
"""Columns of a training's curve beside its terms."""


@dataclasses.dataclass(frozen=True)
class BaseRecipe:
    """`method.base`: the slots of the base step, and the parts of the network for all steps.

    Attributes:
        losses: Terms of the objective by name.
        statistics: Statistics that are collected for the first increment, by the part's name.
        head: Kind of the heads, in every step.
        unknown_class: Whether a class "unknown" is split off the background, in every step.
        background: Meaning of output 0, in every step.
    """

    MOVED: ClassVar[Mapping[str, str]] = {"unknown": "method.base.unknown_class"}

    losses: dict[str, PartRecipe]
    statistics: dict[str, PartRecipe]
    head: PartRecipe
    unknown_class: PartRecipe
    background: PartRecipe = dataclasses.field(default_factory=lambda: dict(LEARNED))


@dataclasses.dataclass(frozen=True)
class Recipe:
    """`method`: the slots of the incremental steps and of the base step.

    Attributes:
        name: Name of the method in reports; nothing else reads it.
        images: The list that a step trains on: its own (`train`), or all so far with all their
            classes annotated (`seen`).
        start: Whether a step starts from the `previous` model or from `scratch`.
        base: The base step.
        losses: Terms of the objective by name.
        statistics: Statistics that are collected for the next step; by default the base step's.
        classifier_init: Rule that sets the first weights of a new head.
        freeze: Rule that chooses the weights held fixed.
        after: Rule that changes the trained weights before they are saved and tested.
        pseudo_labels: Rule that adds labels of the previous model.
        replay: Source of samples of earlier steps.
    """

    name: str
    images: Literal["train", "seen"]
    start: Literal["previous", "scratch"]
    base: BaseRecipe
    losses: dict[str, PartRecipe]
    statistics: dict[str, PartRecipe]
    classifier_init: PartRecipe
    freeze: PartRecipe
    after: PartRecipe
    pseudo_labels: PartRecipe
    replay: PartRecipe

    @classmethod
    def of(cls, values: Mapping[str, object]) -> "Recipe":
        """Checks the keys of the section `method`; `Method.of` checks its parts.

        Raises:
            InputError: A key is unknown, missing, or asks the base step for what it cannot do.
        """
        base = values.get("base")
        if isinstance(base, Mapping):
            for slot in ("replay", "pseudo_labels", "classifier_init", "freeze", "after"):
                if slot in base:
                    raise InputError(
                        f"`method.base.{slot}`: the base step has no step before it, so it has"
                        f" nothing for {slot!r} to work on: set `method.{slot}`, which acts in the"
                        " steps that follow."
                    )
        return parse(cls, values, "method")


@dataclasses.dataclass(frozen=True)
class Method:
    """The parts that act in a step.

    Attributes:
        losses: Terms over batches.
        penalties: Terms over weights.
        statistics: Statistics that are collected.
        head: Kind of the heads.
        head_recipe: Recipe of `head`, saved with the model.
        unknown: The rule for the unknown class.
        background: Meaning of output 0.
        classifier_init: Rule that sets the first weights of the new head.
        freeze: Rule that chooses the weights held fixed.
        after: Rule that changes the trained weights.
        replay: Source of samples of earlier steps.
        replayed: Terms over batches of replayed samples, if those are batches of their own.
        from_scratch: Whether the step ignores the previous model.
    """

    losses: Mapping[str, Loss]
    penalties: Mapping[str, Penalty]
    statistics: Mapping[str, Statistic]
    head: HeadKind
    head_recipe: PartRecipe
    unknown: Unknown
    background: BackgroundRule
    classifier_init: ClassifierInit
    freeze: Freeze
    after: After
    replay: Replay
    replayed: Mapping[str, Loss]
    from_scratch: bool

    @classmethod
    def of(cls, recipe: Recipe) -> "Method":
        """Builds the parts of the incremental steps.

        Raises:
            InputError: A part is unknown or its numbers are refused.
        """
        return _assembled(
            recipe.losses,
            recipe.statistics,
            recipe.base,
            "method",
            {slot: getattr(recipe, slot) for slot in LATER},
            from_scratch=recipe.start == "scratch",
        )

    @classmethod
    def of_base(cls, recipe: BaseRecipe) -> "Method":
        """Builds the parts of the base step; raises as `of`."""
        nothing = {slot: NOTHING for slot in LATER}
        return _assembled(
            recipe.losses, recipe.statistics, recipe, "method.base", nothing, from_scratch=True
        )

    @property
    def terms(self) -> dict[str, Term]:
        """Losses and penalties."""
        return {**self.losses, **self.penalties}

    @property
    def needs_old(self) -> bool:
        """Whether a term or a statistic reads the previous model's outputs or weights."""
        terms = any(term.needs_old for term in self.terms.values())
        return terms or any(s.needs_old_pass for s in self.statistics.values())

    @property
    def scores(self) -> Scores | None:
        """Function from logits to scores that the losses use; None if none reads logits."""
        return next((t.scores for t in self.losses.values() if t.scores), None)

    @property
    def unknown_scores(self) -> Scores | None:
        """Function to the unknown class's score; None if there is no such class."""
        return (self.scores or "softmax") if self.unknown.present else None


def _assembled(
    losses: Mapping[str, PartRecipe],
    statistics: Mapping[str, PartRecipe],
    base: BaseRecipe,
    where: str,
    slots: Mapping[str, PartRecipe],
    *,
    from_scratch: bool,
) -> Method:
    replay = build_part(SLOTS["replay"], Replay, slots["replay"], f"{where}.replay")
    terms = _terms(losses, f"{where}.losses", (*_COLUMNS, *replay.terms))
    collected = {
        name: build_part(SLOTS["statistics"], Statistic, recipe, f"{where}.statistics.{name}")
        for name, recipe in statistics.items()
    }
    for name, recipe in statistics.items():
        if recipe["part"] != name:
            raise InputError(
                f"`{where}.statistics.{name}` holds the part {recipe['part']!r}: a statistic goes"
                f" by its part's name, so write `{recipe['part']}:` instead of `{name}:`."
            )
    return Method(
        losses={n: t for n, t in terms.items() if isinstance(t, Loss)},
        penalties={n: t for n, t in terms.items() if isinstance(t, Penalty)},
        statistics=collected,
        head=build_part(SLOTS["head"], HeadKind, base.head, "method.base.head"),
        head_recipe=base.head,
        unknown=build_part(
            SLOTS["unknown_class"], Unknown, base.unknown_class, "method.base.unknown_class"
        ),
        background=build_part(
            SLOTS["background"], BackgroundRule, base.background, "method.base.background"
        ),
        classifier_init=build_part(
            SLOTS["classifier_init"],
            ClassifierInit,
            slots["classifier_init"],
            f"{where}.classifier_init",
        ),
        freeze=build_part(SLOTS["freeze"], Freeze, slots["freeze"], f"{where}.freeze"),
        after=build_part(SLOTS["after"], After, slots["after"], f"{where}.after"),
        replay=replay,
        replayed={
            name: build_part(SLOTS["losses"], Loss, recipe, f"{where}.replay")
            for name, recipe in replay.terms.items()
        },
        from_scratch=from_scratch,
    )


def _terms(
    recipes: Mapping[str, PartRecipe], where: str, columns: Sequence[str]
) -> dict[str, Term]:
    if not recipes:
        raise InputError(f"`{where}` is empty: name at least one term, such as `ce: {{part: ce}}`.")
    if taken := [name for name in recipes if name in columns]:
        raise InputError(
            f"`{where}.{taken[0]}`: {taken[0]!r} is a column of the curve already; give the term"
            " another name."
        )
    return {
        name: build_part(SLOTS["losses"], Term, recipe, f"{where}.{name}")
        for name, recipe in recipes.items()
    }


def base_modules(recipe: BaseRecipe) -> list[str]:
    """Lists the modules of the parts that the base step uses."""
    return _modules(
        {
            **_named("losses", recipe.losses, "method.base"),
            **_named("statistics", recipe.statistics, "method.base"),
            "method.base.head": ("head", recipe.head),
            "method.base.unknown_class": ("unknown_class", recipe.unknown_class),
            "method.base.background": ("background", recipe.background),
            **{f"method.{slot}": (slot, NOTHING) for slot in LATER},
        }
    )


def recipe_modules(recipe: Recipe) -> list[str]:
    """Lists the modules of the parts that the training of an incremental step uses."""
    replay = build_part(SLOTS["replay"], Replay, recipe.replay, "method.replay")
    return _modules(
        {
            **_named("losses", recipe.losses, "method"),
            **_named("losses", replay.terms, "method.replay"),
            **_named("statistics", recipe.statistics, "method"),
            "method.base.head": ("head", recipe.base.head),
            "method.base.unknown_class": ("unknown_class", recipe.base.unknown_class),
            "method.base.background": ("background", recipe.base.background),
            "method.classifier_init": ("classifier_init", recipe.classifier_init),
            "method.freeze": ("freeze", recipe.freeze),
            "method.after": ("after", recipe.after),
            "method.replay": ("replay", recipe.replay),
        }
    )


def _named(
    slot: str, recipes: Mapping[str, PartRecipe], where: str
) -> dict[str, tuple[str, PartRecipe]]:
    return {f"{where}.{slot}.{name}": (slot, recipe) for name, recipe in recipes.items()}


def _modules(parts: Mapping[str, tuple[str, PartRecipe]]) -> list[str]:
    return [part_module(SLOTS[slot], recipe, where) for where, (slot, recipe) in parts.items()]
