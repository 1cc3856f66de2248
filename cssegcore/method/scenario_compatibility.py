"""Recipes that do not go together with a scenario, refused before anything is trained."""

from collections.abc import Iterator

from cssegcore.core.errors import InputError
from cssegcore.method.assembled import AssembledRecipe
from cssegcore.scenario.scenario import Scenario


def check_without_new_classes(assembled: AssembledRecipe) -> None:
    """Refuses parts that make no sense in steps that bring domains and no class.

    Raises:
        InputError: A part needs new classes, or a background; the message names a substitute.
    """
    recipe = assembled.recipe
    parts = {
        "method.classifier_init": recipe.classifier_init,
        "method.freeze": recipe.freeze,
        "method.after": recipe.after,
        "method.pseudo_labels": recipe.pseudo_labels,
        "method.replay": recipe.replay,
        "method.base.unknown_class": recipe.base.unknown_class,
    }
    for where, part in parts.items():
        if part["part"] != "none":
            raise InputError(
                f"`{where}` is {part['part']!r}, and the scenario's steps bring domains and no"
                " class: set it to none."
            )
    if assembled.increment.background.output != "argmax":
        raise InputError(
            f"`method.base.background` is {recipe.base.background['part']!r}, and the scenario's"
            " steps bring domains and no class: set it to argmax."
        )
    for name, term in assembled.increment.terms.items():
        if term.needs_new_classes:
            raise InputError(
                f"`method.losses.{name}` sets new classes apart from old ones, and the scenario's"
                " steps bring domains and no class: take plain terms, such as `ce` and `kd`."
            )


def check_annotated(assembled: AssembledRecipe, scenario: Scenario) -> None:
    """Refuses steps that may read labels of old classes, if a statistic counts them as hidden.

    Raises:
        InputError: A step has such labels; the message names the key and the way out.
    """
    for step, old in _annotated_old_classes(scenario):
        for name, statistic in assembled.increment.statistics.items():
            if statistic.needs_old_pass:
                raise InputError(
                    f"`scenario.lists.{step}.annotated` has {old!r}, which an earlier step learns,"
                    f" and `method.statistics.{name}` counts the old classes that labels hide:"
                    f" take {old!r} out."
                )


def labels_without_effect(assembled: AssembledRecipe, scenario: Scenario) -> Iterator[str]:
    """Says which labels of old classes a step may read and the recipe takes for background.

    They are no error: `arrive` freezes a setting that annotates old classes into such lists.
    """
    losses = assembled.increment.losses
    if any(term.reads_old_labels for term in losses.values()):
        return
    for step, old in _annotated_old_classes(scenario):
        name = next(name for name, term in losses.items() if term.is_supervised)
        yield (
            f"`scenario.lists.{step}.annotated` has {old!r}, which an earlier step learns, and"
            f" `method.losses.{name}` takes old classes for background: these labels change"
            " nothing. A method that learns them again is `ft`."
        )


def _annotated_old_classes(scenario: Scenario) -> Iterator[tuple[str, str]]:
    """Yields the increments that read labels of old classes, with the first of these classes."""
    for step in scenario.steps[1:]:
        listed = (step.lists and step.lists.annotated) or ()
        if old := [name for name in listed if name not in step.classes]:
            yield step.name, old[0]
