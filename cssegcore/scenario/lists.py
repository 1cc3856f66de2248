"""Steps that name their images themselves, as they arrive: the setting `listed`.

What belongs to a step depends on its own lists and those of earlier steps alone. So a step that
comes later, with new photographs and classes, changes nothing that an earlier step depends on.
"""

import dataclasses
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from cssegcore.core.config import did_you_mean
from cssegcore.core.errors import InputError
from cssegcore.data.layouts._base import read_names

LISTED = "listed"
"""The setting."""
LISTS = Path("lists")
"""The folder, in the repository, of list files: DVC watches it."""


@dataclasses.dataclass(frozen=True)
class StepLists:
    """`scenario.lists.STEP`: the images of a step.

    A list is a file below `lists/`, one name of an image a line, or a folder of the dataset, with
    all photographs in it and below it. Both are relative to the repository.

    Attributes:
        train: List of the training images.
        test: List of the images that are tested in this and all later steps; null if the step is
            tested on the images of earlier ones alone, so never in the first step.
        val: List of the images for monitoring; null for none.
        annotated: Classes whose annotation the step may read, those that it adds among them; null
            for these alone.
    """

    train: str
    test: str | None
    val: str | None = None
    annotated: list[str] | None = None


class NamedImages(NamedTuple):
    """Names of the images that a step's lists hold, in their order."""

    train: list[str]
    val: list[str]
    test: list[str]


def check_lists(
    setting: str, lists: Mapping[str, StepLists], steps: Mapping[str, Sequence[str]]
) -> None:
    """Compares the lists with the setting and the classes of the steps.

    Raises:
        InputError: One fits neither.
    """
    if setting != LISTED:
        if lists:
            raise InputError(
                f"`scenario.setting` is {setting!r}, but `scenario.lists` names each step's images:"
                f" set it to {LISTED!r}, or take the lists out."
            )
        return
    if list(lists) != list(steps):
        raise InputError(
            f"`scenario.setting` is {LISTED!r}, so `scenario.lists` must name the images of"
            f" {', '.join(steps)}; got those of {', '.join(lists) or 'none'}."
        )
    first = next(iter(lists))
    if lists[first].test is None:
        raise InputError(
            f"`scenario.lists.{first}.test` is null, and the first step needs images that it is"
            " tested on: name a list file or a folder of them."
        )
    _check_annotated(lists, steps)


def _check_annotated(lists: Mapping[str, StepLists], steps: Mapping[str, Sequence[str]]) -> None:
    known: list[str] = []
    for step, given in lists.items():
        known += steps[step]
        key, annotated = f"`scenario.lists.{step}.annotated`", given.annotated
        if annotated is None:
            continue
        if strange := [name for name in annotated if name not in known]:
            raise InputError(
                f"{key} has {strange[0]!r}, which no step has learned by then."
                f"{did_you_mean(strange[0], known)} Known: {', '.join(known)}."
            )
        if unread := [name for name in steps[step] if name not in annotated]:
            raise InputError(f"{key} lacks {unread[0]!r}, which the step learns: add it.")


def read_lists(
    lists: Mapping[str, StepLists], names: Collection[str], photograph: Callable[[str], Path]
) -> list[NamedImages]:
    """Reads the names in every step's lists.

    Args:
        lists: Lists of the steps.
        names: Names of all images of the dataset.
        photograph: Returns the path of an image's photograph.

    Raises:
        InputError: A list is missing, empty, outside `lists/`, or names an unknown image.
    """
    paths = {name: _plain(photograph(name)) for name in names}

    def read(step: str, kind: str, place: str | None) -> list[str]:
        return [] if place is None else _read(f"`scenario.lists.{step}.{kind}`", place, paths)

    return [
        NamedImages(
            read(step, "train", given.train),
            read(step, "val", given.val),
            read(step, "test", given.test),
        )
        for step, given in lists.items()
    ]


def check_shared(named: Sequence[NamedImages]) -> None:
    """Makes sure that no name is in a list of training images and in one that is held out.

    `check_leaks` also finds the same photograph under two names, but needs the index.

    Args:
        named: Images of the steps, as `read_lists` returns them.

    Raises:
        InputError: One is.
    """
    trained = {name for step in named for name in step.train}
    held_out = dict.fromkeys(name for step in named for name in (*step.val, *step.test))
    if shared := [name for name in held_out if name in trained]:
        raise leak_error(len(shared), shared[0])


def leak_error(count: int, name: str, other: str = "") -> InputError:
    """Returns the error for images that are both trained and tested on.

    Args:
        count: Number of such images.
        name: One of them, as the training part names it.
        other: Its name in `val` or `test`; "" for the same.
    """
    twin = f", as the same photograph under the name {other!r}" if other else ""
    return InputError(
        f"{count} images are trained and tested on: {name!r} is in the training part and"
        f" in `val` or `test`{twin}. Take them out of one, or, if it is meant, set"
        " `evaluation.shared` to allow."
    )


def _read(key: str, place: str, paths: Mapping[str, str]) -> list[str]:
    path = Path(place)
    if path.is_dir():
        below = _plain(path) + os.sep
        if found := sorted(name for name, file in paths.items() if file.startswith(below)):
            return found
        raise InputError(
            f"{key} is the folder {place!r}, and no photograph of the dataset lies in it: name a"
            " folder below `dataset.root`, or a list file."
        )
    if not path.is_file():
        raise InputError(
            f"{key} is {place!r}, and there is no such file or folder below {Path.cwd()}: give its"
            " path from there."
        )
    if not _plain(path).startswith(_plain(LISTS) + os.sep):
        raise InputError(
            f"{key} is {place!r}, and DVC sees changes of list files in {LISTS}/ alone: move it"
            " there."
        )
    listed = read_names(path)
    if unknown := [name for name in listed if name not in paths]:
        more = f" and {len(unknown) - 1} more images" if unknown[1:] else ""
        raise InputError(
            f"{key}: {place} names {unknown[0]!r}{more}, which the dataset does not have. Take it"
            " off the list, or put photograph and label image into `dataset.root`."
        )
    return listed


def _plain(path: Path) -> str:
    """Returns an absolute path without `..`, links left as they are."""
    return os.path.abspath(path)  # noqa: PTH100 - Path.resolve() would follow links to the dataset
