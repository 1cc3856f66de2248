"""Recipes whose parts do not go together with the meaning of output 0."""

from collections.abc import Iterator

from cssegcore.method.assembled import AssembledRecipe
from cssegcore.method.losses import Loss

_KEY = "method.base.background"


def a_learned_background_is_taught(assembled: AssembledRecipe) -> Iterator[str]:
    """Yields the losses that would leave the background's output as it was drawn."""
    if assembled.increment.background.output != "argmax":
        return
    for where, method in assembled.phases():
        supervised = {n: term for n, term in method.losses.items() if term.is_supervised}
        if supervised and not any(term.reads_background for term in supervised.values()):
            yield (
                f"`{where}.losses.{next(iter(supervised))}` teaches classes alone, so nothing would"
                f" teach the background's output: set `{_KEY}` to rejected, or take `bce` instead."
            )


def a_background_without_output_is_not_read(assembled: AssembledRecipe) -> Iterator[str]:
    """Yields the parts that read a score of the background where there is none."""
    part, output = assembled.recipe.base.background["part"], assembled.increment.background.output
    if output == "argmax":
        return
    if assembled.increment.unknown.present:
        yield (
            f"`{_KEY}: {part}` and `method.base.unknown_class:"
            f" {assembled.recipe.base.unknown_class['part']}` both say what output 0 is: set"
            " `method.base.unknown_class` to none."
        )
    for where, method in assembled.phases():
        for name, term in method.losses.items():
            if term.reads_background:
                yield (
                    f"`{where}.losses.{name}` reads a score of the background, and a model with"
                    f" `{_KEY}: {part}` has none: {_instead(term)}, or set `{_KEY}` to argmax."
                )
    if assembled.increment.classifier_init.expects_background_at_0:
        yield (
            f"`method.classifier_init: {assembled.recipe.classifier_init['part']}` splits the"
            f" background's output, which a model with `{_KEY}: {part}` does not have: set"
            f" `method.classifier_init` to {'auxiliary' if output == 'auxiliary' else 'none'}."
        )


def _instead(term: Loss) -> str:
    """Returns a loss that does the same without a background."""
    if term.is_supervised:
        return "take `mbce`"
    return "take `bce_kd` with `background: false`"


def auxiliary_output_is_used(assembled: AssembledRecipe) -> Iterator[str]:
    """Yields parts that lack an auxiliary output, or that leave one untrained or unread."""
    recipe, present = assembled.recipe, assembled.increment.background.output == "auxiliary"
    reads = assembled.increment.classifier_init.needs_auxiliary
    for where, method in assembled.phases():
        trains = [name for name, term in method.losses.items() if term.trains_auxiliary]
        if trains and not present:
            yield (
                f"`{where}.losses.{trains[0]}` teaches an auxiliary output, and `{_KEY}:"
                f" {recipe.base.background['part']}` is none: set it to auxiliary, or drop the"
                " term."
            )
        if present and not trains:
            yield (
                f"`{_KEY}: auxiliary` has an output that no term of `{where}.losses` teaches: add"
                f" `ac: {{part: negative}}`, or set `{_KEY}` to rejected."
            )
    if reads and not present:
        yield (
            f"`method.classifier_init: {recipe.classifier_init['part']}` starts from an auxiliary"
            f" output, and `{_KEY}: {recipe.base.background['part']}` is none: set"
            f" `method.classifier_init` to none, or `{_KEY}` to auxiliary."
        )
    if present and not reads and not assembled.increment.from_scratch:
        yield (
            f"`{_KEY}: auxiliary` has an output that nothing starts from: set"
            f" `method.classifier_init` to auxiliary, or `{_KEY}` to rejected."
        )
    if present and assembled.increment.freeze.freezes_old:
        yield (
            f"`method.freeze: {recipe.freeze['part']}` holds the auxiliary output, which goes on"
            " learning for the classes to come: set `method.freeze` to norms or none, or"
            f" `{_KEY}` to rejected."
        )


def an_unknown_class_goes_on_learning(assembled: AssembledRecipe) -> Iterator[str]:
    """Yields the freezing rule that would hold the unknown class's output."""
    freeze = assembled.increment.freeze
    if not assembled.increment.unknown.present or freeze.needs_unknown or not freeze.freezes_old:
        return
    yield (
        f"`method.freeze: {assembled.recipe.freeze['part']}` holds the unknown class's output,"
        " which goes on learning for the classes to come: set `method.freeze` to all_but_newest,"
        " norms or none, or `method.base.unknown_class` to none."
    )


def heads_are_read_where_they_are_linear(assembled: AssembledRecipe) -> Iterator[str]:
    """Yields the terms that compute with weights of heads, if these are more than one layer."""
    if assembled.increment.head.is_linear:
        return
    for where, method in assembled.phases():
        for name, term in method.losses.items():
            if term.reads_classifiers:
                yield (
                    f"`{where}.losses.{name}` computes with a classifier's weights, and"
                    f" `method.base.head: {assembled.recipe.base.head['part']}` has layers before"
                    " it: set `method.base.head` to linear, or drop the term."
                )
