"""Shares photographs that arrive while a scenario runs among training, monitoring and tests."""

from collections.abc import Collection, Mapping, Sequence

from cssegcore.core.errors import InputError
from cssegcore.data.index import Entry
from cssegcore.data.layouts._base import Split
from cssegcore.data.layouts.folder import by_digest, drawn_part
from cssegcore.scenario.domains import Chosen


def hold_out(
    entries: Sequence[Entry],
    classes: dict[int, str],
    held_out: Collection[str] | None = None,
    listed: Mapping[str, Split] | None = None,
) -> Chosen:
    """Shares new photographs out among training, monitoring and tests.

    Where the dataset has lists, they stand. Without, names draw the part, and a class that then
    lacks photographs to train or to test on gets one, if it has two: what is given out here is
    written down, so it need not follow from names for ever.

    Args:
        entries: The photographs.
        classes: Names of the new classes, by raw label.
        held_out: Names of the photographs to test on, if a person chose; all others are trained on.
        listed: Part of each photograph by the dataset's lists; None if it has none.

    Raises:
        InputError: A new class is shown by no photograph that is trained on.
    """
    parts: dict[str, Split]
    if held_out is None and listed is not None:
        parts = {entry.name: listed[entry.name] for entry in entries}
    elif held_out is None:
        parts = {entry.name: drawn_part(entry.name) for entry in entries}
        for raw in classes:
            showing = by_digest(entry.name for entry in entries if raw in entry.present)
            if showing and all(parts[name] != "train" for name in showing):
                parts[showing[-1]] = "train"
            if len(showing) > 1 and all(parts[name] != "test" for name in showing):
                parts[showing[0]] = "test"
    else:
        parts = {e.name: "test" if e.name in held_out else "train" for e in entries}
    chosen = Chosen(
        *([e for e in entries if parts[e.name] == part] for part in ("train", "val", "test"))
    )
    for raw, name in classes.items():
        if all(raw not in entry.present for entry in chosen.train):
            raise InputError(
                f"no new photograph that is trained on shows {name!r} (label {raw}): add some, or"
                " leave the class for later (--classes)."
            )
    return chosen
