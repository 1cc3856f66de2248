"""What the steps of a running project had, written down as lists, so that growth changes nothing.

Lists are what the last `split` gave each step. A step that lists the same images in the same order
trains on the same bytes, so DVC runs no training again.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from cssegcore.core.errors import InputError
from cssegcore.scenario.lists import LISTED, LISTS, StepLists

from .params import Params

if TYPE_CHECKING:
    from cssegcore.data.image_list import ImageList

SPLIT = Path("work/split")
"""Where dvc.yaml has the lists of the last run."""


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


def trains_again(params: Params) -> list[str]:
    """Names the parameters by which the change to lists alone would train steps again."""
    if params.scenario.setting == LISTED:
        return []
    from ..check import parts_with_a_setting

    found = [f"{where}.setting" for where, _ in parts_with_a_setting(params.method)]
    return found + ["method.images"] * (params.method["images"] == "seen")


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
