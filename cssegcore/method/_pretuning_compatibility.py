"""Recipes whose new head cannot be trained before the step."""

from collections.abc import Iterator

from cssegcore.method.assembled import AssembledRecipe


def a_head_can_be_trained_beforehand(assembled: AssembledRecipe) -> Iterator[str]:
    """Yields conflicts between a recipe's `classifier_init` and its other parts."""
    method, recipe = assembled.increment, assembled.recipe
    init, part = method.classifier_init, recipe.classifier_init["part"]
    if init.needs_linear_heads and not method.head.is_linear:
        yield (
            f"`method.classifier_init: {part}` mixes the rows of linear classifiers, and"
            f" `method.base.head` is {recipe.base.head['part']!r}: set `method.base.head` to linear"
            " or `method.classifier_init` to none."
        )
    if not init.epochs:
        return
    if method.scores == "sigmoid":
        yield (
            f"`method.classifier_init: {part}` trains by a softmax over background and new classes,"
            " and `method.losses` read logits as sigmoid: take `unbiased_ce` with `unbiased_kd`, or"
            " set `method.classifier_init` to none."
        )
    if recipe.images == "seen":
        yield (
            f"`method.classifier_init: {part}` takes old classes for background, which"
            " `method.images: seen` has annotated: set `method.images` to train or"
            " `method.classifier_init` to none."
        )
