"""Recipes whose replay does not go together with their other parts."""

from collections.abc import Iterator

from cssegcore.method.assembled import AssembledRecipe


def replay_brings_something(assembled: AssembledRecipe) -> Iterator[str]:
    """Yields reasons that a recipe's replay adds nothing or cannot be made."""
    replay = assembled.increment.replay
    if not (replay.selects_exemplars or replay.generates):
        return
    part = assembled.recipe.replay["part"]
    if assembled.recipe.images == "seen":
        yield (
            f"`method.replay: {part}` brings back what `method.images: seen` trains on already: set"
            " `method.replay` to none."
        )
    if replay.generates and assembled.increment.unknown.present:
        yield (
            f"`method.replay: {part}` draws classes out of a model, and `method.base.unknown_class:"
            f" {assembled.recipe.base.unknown_class['part']}` is none that a layout can show: set"
            " `method.base.unknown_class` to none, or `method.replay` to exemplars."
        )
    if replay.generates and assembled.increment.freeze.freezes_extractor:
        yield (
            f"`method.replay: {part}` rehearses old classes, which `method.freeze:"
            f" {assembled.recipe.freeze['part']}` holds anyway: set one of the two to none."
        )
    if replay.labelled_as_own and not assembled.labels_nothing:
        yield (
            f"`method.replay: {part}` shows the step's classes alone, and `method.pseudo_labels:"
            f" {assembled.recipe.pseudo_labels['part']}` label its photographs with all of them:"
            " set `method.replay.labels` to shifted, or `method.pseudo_labels` to none."
        )
    scores, model = replay.scores, assembled.increment.scores
    if scores and model and scores != model:
        yield (
            f"`method.replay: {part}` reads the previous model's logits as {scores}, but its losses"
            f" made them {model}: set `method.replay` to none, or take losses of that kind."
        )


def teachers_are_there(assembled: AssembledRecipe) -> Iterator[str]:
    """Yields the losses of a step's own photographs that ask for the models of a replay."""
    for where, method in assembled.phases():
        for name, term in method.losses.items():
            if term.needs_teachers:
                yield (
                    f"`{where}.losses.{name}` asks models about the images that they made, and a"
                    " step's own photographs have no such model: drop the term; `method.replay:"
                    " deepinversion` brings it along."
                )
