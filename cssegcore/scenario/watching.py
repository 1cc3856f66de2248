"""Validation lists for the training of a step: its own and those of earlier steps."""

import dataclasses
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from cssegcore.core.errors import InputError
from cssegcore.core.types import BACKGROUND
from cssegcore.data.image_list import ImageList


def write_watched(
    out: Path, lists: Mapping[str, Mapping[str, ImageList]], photographs: Mapping[str, str]
) -> None:
    """Writes `STEP/watched/STEP.json` below `out`: the lists `val` of a step and of earlier ones.

    Images that are tested on by then are left out: where a dataset's test images are its
    validation images, as in Pascal VOC, nothing is watched. Later steps change nothing.

    Args:
        out: Folder.
        lists: Lists of each step, in order, by `train`, `seen`, `val` and `test`.
        photographs: Digest of each image's photograph, by which two names are of one.
    """
    tested: set[str] = set()
    previous: dict[str, ImageList] = {}
    for step, kinds in lists.items():
        tested |= {key for name in kinds["test"].names for key in (name, photographs[name]) if key}
        previous[step] = kinds["val"]
        for earlier, own in previous.items():
            images = [
                [name, digest]
                for name, digest in own.images
                if tested.isdisjoint((name, photographs[name]))
            ]
            path = out / step / "watched" / f"{earlier}.json"
            dataclasses.replace(own, images=images).write(path)


def read_watched(folder: Path) -> list[ImageList]:
    """Returns the lists that `write_watched` wrote for a step, in the order of steps.

    Raises:
        InputError: The folder is not there, or a file is damaged.
    """
    found = [ImageList.read(path) for path in folder.glob("*.json")]
    if not found:
        raise InputError(f"{folder} holds no lists: run `dvc repro split`.")
    return sorted(found, key=lambda image_list: image_list.index)


def check_choice(step: str, folder: Path, shown: Callable[[str], Collection[int]]) -> None:
    """Makes sure that the best epoch of a step can be told by what the step learns.

    The mean is over the classes that some image shows. If none shows one of the step's, it is over
    earlier classes alone, and the best epoch is the one that learned least.

    Args:
        step: Name of the step.
        folder: Folder that `write_watched` wrote for it.
        shown: Returns the raw labels that an image shows; asked until one shows such a class.

    Raises:
        InputError: No image of the step's own list shows a class that it learns; or `read_watched`
            raises it.
    """
    own = [image_list for image_list in read_watched(folder) if image_list.step == step]
    if any(not _learned(one).isdisjoint(shown(name)) for one in own for name in one.names):
        return
    raise InputError(
        f"`validation.keep` is best, and no validation image of {step} that is not tested on shows"
        " a class that the step learns: add one (in the setting listed to"
        f" `scenario.lists.{step}.val`), or set `validation.keep` to last."
    )


def _learned(image_list: ImageList) -> set[int]:
    """Returns the raw labels of a step's classes; of a domain, which brings none, of all."""
    classes = image_list.classes
    outputs = classes.new or range(len(classes.raw))
    return {classes.raw[c] for c in outputs if c != BACKGROUND}
