"""Validation lists for the training of a step: its own and those of earlier steps."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from cssegcore.core.errors import InputError
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
