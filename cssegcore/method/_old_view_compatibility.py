"""Recipes that do not go together with the old classes hidden in a step's own labels."""

from collections.abc import Iterator

from cssegcore.method.assembled import AssembledRecipe


def old_classes_are_seen_alike(assembled: AssembledRecipe) -> Iterator[str]:
    """Yields the parts that take other logits for an old class than the first one does."""
    method = assembled.increment
    parts = {f"statistics.{n}": p for n, p in method.statistics.items()}
    parts |= {f"losses.{n}": p for n, p in method.losses.items()}
    thresholds = {
        n: t for n, p in parts.items() if (t := getattr(p, "raw_threshold", None)) is not None
    }
    for name, threshold in thresholds.items():
        first = next(iter(thresholds))
        if threshold != thresholds[first]:
            yield (
                f"`method.{first}` sees old classes above a logit of {thresholds[first]},"
                f" `method.{name}` above {threshold}, so what is counted is not what is trained:"
                " set `raw_threshold` of all alike."
            )


def old_scores_are_read_as_learned(assembled: AssembledRecipe) -> Iterator[str]:
    """Yields the parts that read the old model's logits as its losses did not make them."""
    method, learned = assembled.increment, assembled.base.scores
    if method.from_scratch or not learned:
        return
    other = "`bce`" if learned == "softmax" else "`ce`"
    for slot, parts in (("losses", method.losses), ("statistics", method.statistics)):
        for name, part in parts.items():
            if part.reads_old_as and part.reads_old_as != learned:
                yield (
                    f"`method.{slot}.{name}` reads the previous model's logits as"
                    f" {part.reads_old_as}, but `method.base.losses` make them {learned}: take it"
                    f" out (`-S '~method.{slot}.{name}'`), or give all steps losses of that kind,"
                    f" such as {other}."
                )


def old_classes_are_hidden(assembled: AssembledRecipe) -> Iterator[str]:
    """Yields the statistics that look for old classes in a background that hides none."""
    replay = assembled.increment.replay
    if assembled.recipe.images == "seen":
        shown = "`method.images: seen` has them annotated: set `method.images: train`."
    elif replay.selects_exemplars and not replay.labelled_as_own:
        shown = "kept photographs have them annotated: set `method.replay.labels` to step."
    else:
        return
    for name, statistic in assembled.increment.statistics.items():
        if statistic.needs_old_pass:
            yield f"`method.statistics.{name}` counts the old classes that labels hide, and {shown}"


def pseudo_labels_are_read(assembled: AssembledRecipe) -> Iterator[str]:
    """Yields pseudo-labels that no term learns."""
    supervised = [t for t in assembled.increment.losses.values() if t.is_supervised]
    if assembled.labels_nothing or not all(term.reads_annotated for term in supervised):
        return
    for name, term in assembled.increment.losses.items():
        if term.is_supervised:
            yield (
                f"`method.losses.{name}` teaches what is annotated alone, so `method.pseudo_labels:"
                f" {assembled.recipe.pseudo_labels['part']}` change nothing: set"
                " `method.pseudo_labels` to none, or take `bce`."
            )
