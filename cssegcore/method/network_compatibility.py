"""Recipes that do not go together with a network, refused before anything is trained."""

from collections.abc import Iterator

from cssegcore.core.errors import InputError
from cssegcore.method.assembled import AssembledRecipe
from cssegcore.models._base import Architecture


def check_network(assembled: AssembledRecipe, architecture: Architecture) -> None:
    """Refuses a recipe that makes no sense on a network.

    Raises:
        InputError: A part does not fit the network; the message names the nearest sensible choice.
    """
    for rule in (_terms_find_what_they_read, _terms_suit_class_tokens, _parts_suit_class_tokens):
        for refusal in rule(assembled, architecture):
            raise InputError(refusal)


def _terms_find_what_they_read(
    assembled: AssembledRecipe, architecture: Architecture
) -> Iterator[str]:
    for where, method in assembled.phases():
        for name, term in method.terms.items():
            drop = f"drop the term (`-S '~{where}.losses.{name}'`)"
            if term.needs_stages and not architecture.has_stages:
                yield (
                    f"`{where}.losses.{name}` compares the backbone's maps stage by stage, and"
                    f" this network, a transformer, has none: {drop}, or take another network,"
                    " such as `model=deeplabv3_r101`."
                )
            if term.needs_class_tokens and not architecture.has_class_tokens:
                yield (
                    f"`{where}.losses.{name}` compares what class tokens become, and this network"
                    f" has none: choose `model=segmenter_vit_b16`, or {drop}."
                )
            if architecture.auxiliary and term.is_supervised and term.reads_classifiers:
                # each auxiliary classifier would move the network's own classifier once more
                yield (
                    f"`{where}.losses.{name}` teaches the classifiers whose weights it reads, and"
                    " this network has auxiliary ones beside them: set `model.auxiliary` to 0, or"
                    " take another network, such as `model=deeplabv3_r101`."
                )


def _terms_suit_class_tokens(
    assembled: AssembledRecipe, architecture: Architecture
) -> Iterator[str]:
    if not architecture.has_class_tokens:
        return
    for where, method in assembled.phases():
        if method.scores == "sigmoid":
            yield (
                f"`{where}.losses` read each score by itself, as a sigmoid, and this network"
                " normalises scores over the classes, so that none can say no to all: take terms"
                " of a softmax, such as `ce` with `kd`, or another network, such as"
                " `model=deeplabv3_r101`."
            )
        for name, term in method.losses.items():
            if term.needs_linear_scores:
                yield (
                    f"`{where}.losses.{name}` scores features by a classifier's weights, and the"
                    " classes of this network are tokens, which decide together: drop the term"
                    f" (`-S '~{where}.losses.{name}'`), or take another network, such as"
                    " `model=deeplabv3_r101`."
                )


def _parts_suit_class_tokens(
    assembled: AssembledRecipe, architecture: Architecture
) -> Iterator[str]:
    if not architecture.has_class_tokens:
        return
    head = assembled.recipe.base.head["part"]
    if head != "linear":
        yield (
            f"`method.base.head` is {head!r}, and this network has heads of its own, class tokens:"
            " set `method.base.head` to linear, which leaves them, or take another network, such"
            " as `model=deeplabv3_r101`."
        )
    if assembled.increment.classifier_init.needs_linear_heads:
        yield (
            f"`method.classifier_init: {assembled.recipe.classifier_init['part']}` mixes the rows"
            " of linear classifiers, and the classes of this network are tokens: set"
            " `method.classifier_init` to background, or background_copy."
        )
    freeze = assembled.increment.freeze
    if freeze.keeps_statistics and not freeze.freezes_extractor:
        yield (
            f"`method.freeze: {assembled.recipe.freeze['part']}` holds batch normalisation and"
            " dropout, and this network, a transformer, has neither: set `method.freeze.part` to"
            " old_heads or none."
        )
    if freeze.freezes_extractor:
        yield (
            f"`method.freeze: {assembled.recipe.freeze['part']}` holds old classes by holding their"
            " features, and on this network every new class token moves the scores of all: set"
            " `method.freeze` to old_heads or none."
        )
