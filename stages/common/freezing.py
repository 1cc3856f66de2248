"""What the steps of a running project had, written down as lists, so that growth changes nothing.

Lists are what the last `split` gave each step. A step that lists the same images in the same order
trains on the same bytes, so DVC runs no training again.
"""

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from cssegcore.core.errors import InputError
from cssegcore.scenario.lists import LISTED, LISTS, StepLists

from .params import Params

if TYPE_CHECKING:
    from cssegcore.data.image_list import ImageList

SPLIT = Path("work/split")
"""Where dvc.yaml has the lists of the last run."""
INDEX = Path("work/index.csv")
"""Where it has the index."""


class Frozen(NamedTuple):
    """Lists of steps, and the list files among them that are to be written."""

    lists: dict[str, StepLists]
    files: dict[Path, list[str]]


def list_file(scenario: str, step: str, kind: str) -> Path:
    """Returns where a list of a step is written."""
    return LISTS / scenario / f"{step}{'' if kind == 'train' else f'_{kind}'}.txt"


def freeze(params: Params) -> Frozen:
    """Returns lists that give every step what it has; list files that are there stay.

    Raises:
        InputError: The last `split` was of another scenario, or there was none.
    """
    frozen, known, tested = Frozen({}, {}), [], set[str]()
    for step, classes in params.scenario.classes.items():
        known += classes
        images = {kind: _read(step, kind, known) for kind in ("train", "val", "test")}
        names = {kind: images[kind].names for kind in images}
        names["test"] = [name for name in names["test"] if name not in tested]
        tested |= {*names["test"]}
        given = params.scenario.lists.get(step)
        places: dict[str, Any] = {}
        for kind, listed in names.items():
            before = getattr(given, kind, None)
            path = list_file(params.scenario.name, step, kind)
            if before and Path(before).is_file():
                places[kind] = before
            else:
                places[kind] = path.as_posix() if listed else None
                frozen.files.update({path: listed} if listed else {})
        readable = given.annotated if given else _annotated(images["train"], classes)
        frozen.lists[step] = StepLists(**places, annotated=readable)
    return frozen


def trains_again(params: Params, learned: Mapping[int, str]) -> list[str]:
    """Says by what earlier steps would be trained again, though they keep their images.

    Args:
        params: The parameters before the arrival.
        learned: Names of the new classes, by raw label.

    Raises:
        InputError: A list of the last `split`, or the index, is not there or damaged.
    """
    changed = list(_changed_void(params, learned))
    found = [
        f"{learned[raw]} was void in {step} (`scenario.left_out`) and is background there once a"
        " step learns it, so earlier steps train again: add --retrain if they may."
        for step, raw, is_shown in changed
        if is_shown
    ]
    if params.scenario.setting == LISTED:
        return found
    from ..check import parts_with_a_setting

    settings = [f"{where}.setting" for where, _ in parts_with_a_setting(params.method)]
    keys = settings + ["method.images"] * (params.method["images"] == "seen")
    keys += ["scenario.left_out"] * bool(changed)
    return found + [
        f"the setting becomes `listed`, and `{key}` makes earlier steps train again for it, once"
        f"{' (as overlapped, unless you set that key)' * (key in settings)}: add --retrain if they"
        " may. Who begins with `listed` is spared."
        for key in keys
    ]


def _changed_void(params: Params, learned: Collection[int]) -> Iterator[tuple[str, int, bool]]:
    """Yields each step and raw label that is ignored in a list of its training, and will not be.

    Where steps list their images, void classes are those of no step that a list's images show.

    Yields:
        The step, the raw label, and whether an image of the list shows it, so that pixels change.
    """
    if params.scenario.left_out != "void":
        return
    from cssegcore.data.image_list import ImageList
    from cssegcore.data.index import read_index

    present = {entry.name: entry.present for entry in read_index(INDEX)[0]}
    for step in params.scenario.classes:
        for kind in dict.fromkeys(("train", "val", params.step(step).images)):
            images = ImageList.read(SPLIT / step / f"{kind}.json")
            shown = {raw for name in images.names for raw in present.get(name, ())}
            for raw in images.ignored:
                if raw not in shown or raw in learned:
                    yield step, raw, raw in shown


def _read(step: str, kind: str, known: list[str]) -> "ImageList":
    from cssegcore.data.image_list import ImageList

    path = SPLIT / step / f"{kind}.json"
    if not path.is_file():
        raise InputError(f"{path} is not there: run `dvc repro`, so that it is known what to keep.")
    images = ImageList.read(path)
    if list(images.classes.names[1 : 1 + len(known)]) != known:
        raise InputError(f"{path} is of another scenario than params.yaml: run `dvc repro split`.")
    return images


def _annotated(images: "ImageList", classes: list[str]) -> list[str] | None:
    names: Mapping[int, str] = dict(zip(images.classes.raw, images.classes.names, strict=True))
    readable = [names[raw] for raw in images.visible]
    return None if {*readable} == {*classes} else readable
