"""Recipes whose parts do not go together, refused before anything is trained."""

from collections.abc import Callable, Iterator

from cssegcore.core.errors import InputError
from cssegcore.method._background_compatibility import (
    a_background_without_output_is_not_read,
    a_learned_background_is_taught,
    an_unknown_class_goes_on_learning,
    auxiliary_output_is_used,
    heads_are_read_where_they_are_linear,
)
from cssegcore.method._old_view_compatibility import (
    old_classes_are_hidden,
    old_classes_are_seen_alike,
    old_scores_are_read_as_learned,
    pseudo_labels_are_read,
)
from cssegcore.method._pretuning_compatibility import a_head_can_be_trained_beforehand
from cssegcore.method._replay_compatibility import replay_brings_something, teachers_are_there
from cssegcore.method.assembled import AssembledRecipe


def check_recipe(assembled: AssembledRecipe) -> None:
    """Refuses a recipe that makes no sense.

    Raises:
        InputError: Two parts do not go together; the message names the nearest sensible choice.
    """
    for rule in RULES:
        for refusal in rule(assembled):
            raise InputError(refusal)


def _terms_compare_with_a_previous_model(assembled: AssembledRecipe) -> Iterator[str]:
    for where, method in assembled.phases():
        for name, term in method.terms.items():
            if term.needs_old and method.from_scratch:
                yield (
                    f"`{where}.losses.{name}` compares with a previous model, and the base step has"
                    " none: use it in `method.losses`."
                    if where == "method.base"
                    else f"`{where}.losses.{name}` compares with the previous model, which"
                    " `method.start: scratch` leaves out: set `method.start: previous` or drop the"
                    " term."
                )


def _terms_read_scores_alike(assembled: AssembledRecipe) -> Iterator[str]:
    for where, method in assembled.phases():
        readings = {n: t.scores for n, t in method.losses.items() if t.scores}
        for name, scores in readings.items():
            first = next(iter(readings))
            if scores != readings[first]:
                yield (
                    f"`{where}.losses`: {first!r} reads logits as {readings[first]} and {name!r} as"
                    f" {scores}, so each undoes what the other learns: take terms of one kind,"
                    " such as `bce` with `bce_kd`, or `unbiased_ce` with `unbiased_kd`."
                )
    base, later = assembled.base.scores, assembled.increment.scores
    if not assembled.increment.from_scratch and base and later and base != later:
        yield (
            f"`method.base.losses` read logits as {base}, `method.losses` as {later}: a model"
            " trained for one is no start for the other; give the base step the loss of its kind"
            f" ({'bce' if later == 'sigmoid' else 'ce'})."
        )


def _something_is_learned(assembled: AssembledRecipe) -> Iterator[str]:
    for where, method in assembled.phases():
        if not any(t.is_supervised for t in method.losses.values()):
            yield (
                f"`{where}.losses` has no term that reads the labels: add one, such as"
                " `ce: {part: ce}`."
            )


def _statistics_are_gathered(assembled: AssembledRecipe) -> Iterator[str]:
    for where, method in assembled.phases():
        for name, term in method.terms.items():
            if term.statistic and term.statistic not in method.statistics:
                # the base step is first to gather it, and increments gather what that does
                lacking = "method" if term.statistic in assembled.base.statistics else "method.base"
                yield (
                    f"`{where}.losses.{name}` needs the statistic {term.statistic!r}, which is not"
                    f" gathered: add `{term.statistic}: {{part: {term.statistic}}}` to"
                    f" `{lacking}.statistics`."
                )
    if assembled.recipe.statistics.keys() - assembled.recipe.base.statistics.keys():
        name = min(assembled.recipe.statistics.keys() - assembled.recipe.base.statistics.keys())
        yield (
            f"`method.statistics.{name}` starts from what the previous step gathered, and the base"
            f" step does not gather it: add it to `method.base.statistics`."
        )


def _unknown_is_where_it_is_expected(assembled: AssembledRecipe) -> Iterator[str]:
    method = assembled.increment
    present = method.unknown.present
    rule = assembled.recipe.base.unknown_class["part"]
    for slot in ("classifier_init", "freeze"):
        if getattr(method, slot).needs_unknown and not present:
            part = getattr(assembled.recipe, slot)["part"]
            yield (
                f"`method.{slot}: {part}` works on the unknown class, and"
                " `method.base.unknown_class` is none: set it to `salient` (or `everything`), or"
                f" `method.{slot}` to none."
            )
    if not present:
        return
    for key, way_out in _expecting_background_at_0(assembled):
        yield (
            f"`{key}` takes output 0 for the background, where a model with"
            f" `method.base.unknown_class: {rule}` has the unknown class: set"
            f" `method.base.unknown_class` to none, or {way_out}."
        )
    if method.classifier_init.expects_background_at_0:
        yield (
            f"`method.classifier_init: {assembled.recipe.classifier_init['part']}` starts from the"
            " background, but with an unknown class new classes come out of that: set"
            " `method.classifier_init` to unknown."
        )


def _expecting_background_at_0(assembled: AssembledRecipe) -> Iterator[tuple[str, str]]:
    """Yields the key of each loss and statistic that does, and what to do about it."""
    for where, method in assembled.phases():
        for name, term in method.losses.items():
            if term.expects_background_at_0:
                plain = "`bce`" if term.scores == "sigmoid" else "`ce`"
                way_out = f"take {plain} instead" if term.is_supervised else "drop the term"
                yield f"{where}.losses.{name}", way_out
    for where, method in assembled.phases():
        for name, statistic in method.statistics.items():
            if statistic.expects_background_at_0:
                yield f"{where}.statistics.{name}", "take it out"


def _frozen_features_are_not_moved(assembled: AssembledRecipe) -> Iterator[str]:
    if not assembled.increment.freeze.freezes_extractor:
        return
    for name, term in assembled.increment.losses.items():
        if term.acts_on_features:
            yield (
                f"`method.losses.{name}` moves features, which `method.freeze:"
                f" {assembled.recipe.freeze['part']}` holds: drop the term or set `method.freeze`"
                " to none."
            )
    if assembled.increment.penalties:
        name = next(iter(assembled.increment.penalties))
        yield (
            f"`method.losses.{name}` ties weights to old ones, and `method.freeze:"
            f" {assembled.recipe.freeze['part']}` does not let them move: drop one of the two."
        )


def _pseudo_labels_fit(assembled: AssembledRecipe) -> Iterator[str]:
    scores, model = assembled.pseudo_labels.scores, assembled.increment.scores
    part = assembled.recipe.pseudo_labels["part"]
    if scores and model and scores != model:
        yield (
            f"`method.pseudo_labels: {part}` reads the previous model's logits as {scores}, but"
            f" its losses made them {model}: set `method.pseudo_labels` to"
            f" {'sigmoid' if model == 'sigmoid' else 'entropy'} or none."
        )
    if scores and assembled.recipe.images == "seen":
        yield (
            f"`method.pseudo_labels: {part}` guesses classes that `method.images: seen` has"
            " annotated: set `method.pseudo_labels` to none."
        )
    if assembled.pseudo_labels.expects_background_at_0 and assembled.increment.unknown.present:
        yield (
            f"`method.pseudo_labels: {part}` takes output 0 for the background, where the model has"
            " the unknown class: set `method.pseudo_labels` to none."
        )
    if assembled.labels_nothing:
        for name, term in assembled.increment.losses.items():
            if term.needs_pseudo_labels:
                yield (
                    f"`method.losses.{name}` weighs images by their pseudo-labels, and"
                    " `method.pseudo_labels` is none: set `method.pseudo_labels` to entropy, or"
                    " take `ce` instead."
                )


def _fresh_weights_are_not_taken_for_old(assembled: AssembledRecipe) -> Iterator[str]:
    if not assembled.increment.from_scratch:
        return
    freeze = assembled.increment.freeze
    if freeze.freezes_old or freeze.keeps_statistics:
        yield (
            f"`method.freeze: {assembled.recipe.freeze['part']}` would hold fresh weights, which"
            " `method.start: scratch` gives: set `method.start: previous`."
        )
    init = assembled.increment.classifier_init
    if init.needs_unknown or init.needs_auxiliary or init.expects_background_at_0:
        yield (
            f"`method.classifier_init: {assembled.recipe.classifier_init['part']}` starts a head"
            " from trained ones, which `method.start: scratch` leaves out: set"
            " `method.start: previous`"
            " or `method.classifier_init` to none."
        )


def _annotated_classes_are_learned(assembled: AssembledRecipe) -> Iterator[str]:
    if assembled.recipe.images != "seen":
        return
    for name, term in assembled.increment.losses.items():
        if term.is_supervised and term.expects_background_at_0:
            yield (
                f"`method.losses.{name}` takes old classes for background, which `method.images:"
                " seen` has annotated: set `method.images: train`, or take `ce`."
            )


def _features_are_gathered_alike(assembled: AssembledRecipe) -> Iterator[str]:
    for where, method in assembled.phases():
        parts = {**method.statistics, **method.losses}
        ways = {n: way for n, p in parts.items() if (way := getattr(p, "gather", None))}
        for name, way in ways.items():
            first = next(iter(ways))
            if way != ways[first]:
                yield (
                    f"`{where}`: {first!r} gathers features as {ways[first]}, {name!r} as {way}:"
                    " numbers of neither; set `gather` of all alike."
                )


def _old_weights_move_before_they_are_fused(assembled: AssembledRecipe) -> Iterator[str]:
    if not assembled.increment.after.needs_old:
        return
    part = assembled.recipe.after["part"]
    if assembled.increment.from_scratch:
        yield (
            f"`method.after: {part}` mixes the weights with the previous model's, which"
            " `method.start: scratch` leaves out: set `method.start: previous` or `method.after` to"
            " none."
        )
    if assembled.increment.freeze.freezes_extractor:
        yield (
            f"`method.after: {part}` mixes old weights with what a step makes of them, and"
            f" `method.freeze: {assembled.recipe.freeze['part']}` holds them: set `method.freeze`"
            f" to {'' if assembled.increment.unknown.present else 'old_heads or '}none, or"
            " `method.after` to none."
        )


_Rule = Callable[[AssembledRecipe], Iterator[str]]

RULES: tuple[_Rule, ...] = (
    _terms_compare_with_a_previous_model,
    _terms_read_scores_alike,
    old_scores_are_read_as_learned,
    _something_is_learned,
    _statistics_are_gathered,
    _unknown_is_where_it_is_expected,
    an_unknown_class_goes_on_learning,
    a_background_without_output_is_not_read,
    a_learned_background_is_taught,
    auxiliary_output_is_used,
    heads_are_read_where_they_are_linear,
    _frozen_features_are_not_moved,
    _pseudo_labels_fit,
    _fresh_weights_are_not_taken_for_old,
    _old_weights_move_before_they_are_fused,
    old_classes_are_hidden,
    _annotated_classes_are_learned,
    a_head_can_be_trained_beforehand,
    _features_are_gathered_alike,
    old_classes_are_seen_alike,
    pseudo_labels_are_read,
    replay_brings_something,
    teachers_are_there,
)
"""Each rule yields one line for each conflict that it finds."""
