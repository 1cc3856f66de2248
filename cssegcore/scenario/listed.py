"""The images of steps that list them: the setting `listed`."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from cssegcore.core.class_table import ClassTable
from cssegcore.core.errors import InputError
from cssegcore.data.image_list import ImageList
from cssegcore.data.index import Entry
from cssegcore.scenario.domains import Chosen
from cssegcore.scenario.lists import read_lists
from cssegcore.scenario.scenario import Scenario


def listed_images(
    scenario: Scenario, entries: Sequence[Entry], photograph: Callable[[str], Path]
) -> list[Chosen]:
    """Returns the images of each step in the order of its lists; tests include earlier steps'.

    The dataset's own parts and order mean nothing here, as both change when it grows.

    Args:
        scenario: Scenario whose setting is `listed`.
        entries: All images of the dataset.
        photograph: Returns the path of an image's photograph.

    Raises:
        InputError: A list cannot be read, or no training image of a step shows one of its classes.
    """
    by_name = {entry.name: entry for entry in entries}
    lists = {step.name: step.lists for step in scenario.steps if step.lists}
    images, tests = [], {}
    for step, named in zip(scenario.steps, read_lists(lists, by_name, photograph), strict=True):
        train, val, test = ([by_name[name] for name in kind] for kind in named)
        shown = _shown(train)
        for name, raw in zip(step.classes, step.raw, strict=True):
            if raw not in shown:
                raise InputError(
                    f"`scenario.lists.{step.name}.train`: no image of {lists[step.name].train}"
                    f" shows {name!r}, which the step learns: name other images, or take the class"
                    f" out of `scenario.classes.{step.name}`."
                )
        tests |= {entry.name: entry for entry in test}
        images.append(Chosen(train, val, list(tests.values())))
    return images


def later_classes(
    scenario: Scenario, classes: ClassTable, entries: Iterable[Entry]
) -> tuple[list[int], list[int]]:
    """Returns the shown raw labels that are void, and the shown ones of classes to come.

    Labels that no image shows are left out: so a list does not change when the class table grows.

    Args:
        scenario: Scenario that names classes which are never learned.
        classes: Classes learned so far.
        entries: The images of the list.
    """
    shown = _shown(entries)
    void = shown.intersection(scenario.ignored)
    return sorted(void), sorted(shown - void - {*classes.raw, *scenario.unlearned})


def as_entries(
    lists: Mapping[str, Mapping[str, ImageList]], entries: Iterable[Entry]
) -> list[Entry]:
    """Returns the entries of images that steps use; the kinds of their lists are their parts."""
    by_name = {entry.name: entry for entry in entries}
    parts: dict[str, dict[str, None]] = {}
    for kinds in lists.values():
        for kind in ("train", "val", "test"):
            for name in kinds[kind].names:
                parts.setdefault(name, {})[kind] = None
    return [dataclasses.replace(by_name[name], parts=tuple(used)) for name, used in parts.items()]


def _shown(entries: Iterable[Entry]) -> set[int]:
    return {raw for entry in entries for raw in entry.present}
