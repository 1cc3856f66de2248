"""Lists of each step's images for training, monitoring and tests."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from cssegcore.core.class_table import ClassTable
from cssegcore.core.errors import InputError, InputWarning
from cssegcore.data.image_list import ImageList
from cssegcore.data.index import Entry
from cssegcore.scenario.domains import Chosen, domain_images
from cssegcore.scenario.listed import as_entries, later_classes, listed_images
from cssegcore.scenario.lists import LISTED, leak_error
from cssegcore.scenario.scenario import Scenario, Step
from cssegcore.scenario.watching import write_watched

TESTS = ("val", "test")


def write_splits(
    out: Path,
    scenario: Scenario,
    entries: Sequence[Entry],
    table: Sequence[str],
    *,
    shared: bool = False,
    photograph: Callable[[str], Path] = Path,
) -> dict[str, dict[str, int]]:
    """Writes `STEP/{train,seen,val,test}.json` below `out`; every step has lists of its own.

    train: the step's images by the setting's rule; only its new classes are annotated, in the
        sequential setting those of earlier steps as well.
    seen: the training images of all steps up to it, with all their classes annotated (`joint`).
    val: images of the `val` part that show a new class, annotated as in training.
    test: images of the `test` part that show any class seen; later classes are told apart.

    `STEP/watched/` has the files of `write_watched`.

    Where steps list their images, a test's images are those of all steps up to it, and later
    classes are told from the others, but not apart.

    Args:
        out: Folder.
        scenario: Scenario with the rule for the images of a step.
        entries: All images.
        table: Names of the raw labels.
        shared: Whether images may be trained and tested on.
        photograph: Returns the path of an image's photograph; asked where steps list folders.

    Returns:
        Number of images, by step and list.

    Raises:
        InputError: A step would have no training or test images, or images are shared.
    """
    lists = step_lists(scenario, entries, table, photograph)
    if not shared:
        check_leaks(as_entries(lists, entries) if scenario.setting == LISTED else entries)
    for kinds in lists.values():
        for kind in ("train", "test"):
            if not kinds[kind].images:
                raise _without_images(scenario, kinds[kind].index, kind, entries)
    _warn_of_unshown(scenario, lists, entries)
    for step, kinds in lists.items():
        for kind, images in kinds.items():
            images.write(out / step / f"{kind}.json")
    write_watched(out, lists, {entry.name: entry.photograph for entry in entries})
    return {step: {k: len(v.images) for k, v in kinds.items()} for step, kinds in lists.items()}


def check_leaks(entries: Sequence[Entry]) -> None:
    """Makes sure that no image is both trained and tested on, under one name or two.

    Raises:
        InputError: One is; images of two names are one if their photographs are the same bytes,
            whatever their labels are.
    """
    trained = {e.name: e.name for e in entries if "train" in e.parts}
    alike = {e.photograph: e.name for e in entries if "train" in e.parts and e.photograph}
    leaks = [
        (trained.get(e.name) or alike[e.photograph], e.name)
        for e in entries
        if not {*TESTS}.isdisjoint(e.parts) and (e.name in trained or e.photograph in alike)
    ]
    if leaks:
        name, other = leaks[0]
        raise leak_error(len(leaks), name, other if other != name else "")


def _without_images(
    scenario: Scenario, index: int, kind: str, entries: Sequence[Entry]
) -> InputError:
    step, said = scenario.steps[index], _as_asked(scenario)
    if scenario.by_domain:
        return InputError(
            f"`steps.{step.name}` has no {kind} images: too few of the dataset's images are of"
            f" {', '.join(step.domains)}, {said}. Choose other `scenario.domains`."
        )
    return InputError(
        f"`steps.{step.name}` has no {kind} images: no image of the dataset's {kind} part shows"
        f" {', '.join(step.classes)} {said}. Choose other classes or another `scenario.setting`."
        f"{_painted_void(step, entries)}"
    )


def _as_asked(scenario: Scenario) -> str:
    return f"as the setting {scenario.setting!r} asks"


def _warn_of_unshown(
    scenario: Scenario, lists: Mapping[str, Mapping[str, ImageList]], entries: Sequence[Entry]
) -> None:
    """Says which classes a step cannot learn, as no training image of it shows them.

    Published scenarios may have such a class, so it is no error; but after the training, its IoU of
    0 looks as if labels, learning rate or epochs were wrong. Where steps bring domains, later ones
    teach it.
    """
    if scenario.by_domain:
        return
    present = {entry.name: entry.present for entry in entries}
    for step in scenario.steps:
        shown = {raw for name in lists[step.name]["train"].names for raw in present[name]}
        learned = zip(step.raw, step.classes, strict=True)
        if lost := [name for raw, name in learned if raw not in shown]:
            warnings.warn(
                f"`steps.{step.name}` learns {', '.join(lost)}, and none of its own training images"
                f" shows that {_as_asked(scenario)}: a training on them learns nothing of it, and"
                " its IoU will be 0. Choose other classes or another `scenario.setting`, or add"
                " images that show it."
                f"{_painted_void(step, entries)}",
                InputWarning,
                stacklevel=3,
            )


def _painted_void(step: Step, entries: Sequence[Entry]) -> str:
    """Returns a hint about classes that no label image holds: they may be painted as void."""
    void = sum(entry.void > 0 for entry in entries)
    lost = [
        (raw, name)
        for raw, name in zip(step.raw, step.classes, strict=True)
        if not any(entry.pixels[raw] for entry in entries)
    ]
    if not lost or not void:
        return ""
    raw, name = lost[-1]
    return (
        f" {void} label images hold 255, which is void, and none holds {raw}: if {name} was painted"
        f" 255, as in masks of black and white, paint it {raw}."
    )


def step_lists(
    scenario: Scenario,
    entries: Sequence[Entry],
    table: Sequence[str],
    photograph: Callable[[str], Path] = Path,
) -> dict[str, dict[str, ImageList]]:
    """Returns the lists that `write_splits` writes, by step and kind."""
    by_lists = scenario.setting == LISTED
    if by_lists:
        image_list = listed_images(scenario, entries, photograph)
    elif scenario.by_domain:
        image_list = domain_images(scenario, entries)
    else:
        image_list = _shown(scenario, entries)
    tables = [scenario.class_table(table[0], known + 1) for known in range(len(scenario.steps))]
    lists = {}
    for step, (own, val, test) in zip(scenario.steps, image_list, strict=True):
        classes, visible = tables[step.index], scenario.annotated(step.index)
        so_far = {e.name: e for images in image_list[: step.index + 1] for e in images.train}
        seen = list(so_far.values())
        if not by_lists:
            seen = [e for e in entries if e.name in so_far]
        tested = classes if by_lists else tables[-1]
        lists[step.name] = {
            "train": _list(scenario, step, classes, visible, own),
            "seen": _list(scenario, step, classes, classes.foreground, seen),
            "val": _list(scenario, step, classes, visible, val),
            "test": _list(scenario, step, tested, tested.foreground, test, tests=True),
        }
    return lists


def _shown(scenario: Scenario, entries: Sequence[Entry]) -> list[Chosen]:
    """Chooses the images of each step by the classes that they show."""
    own, (val, test) = training_images(scenario, entries), (_part(entries, p) for p in TESTS)
    return [
        Chosen(
            own[step.index],
            [e for e, present in val if not present.isdisjoint(step.raw)],
            _fitting(test, partial(scenario.tests, index=step.index)),
        )
        for step in scenario.steps
    ]


def training_images(scenario: Scenario, entries: Sequence[Entry]) -> list[list[Entry]]:
    """Returns the training images of each step by the setting's rule, in the dataset's order."""
    images = _part(entries, "train")
    if scenario.setting != "partitioned":
        return [_fitting(images, partial(scenario.trains, index=s.index)) for s in scenario.steps]
    partition_groups = [
        (step.index, group) for step in scenario.steps for group in step.partition_groups
    ]
    places = scenario.partition.places(
        [present for _, present in images], [group for _, group in partition_groups]
    )
    own: list[list[Entry]] = [[] for _ in scenario.steps]
    for (entry, _), place in zip(images, places, strict=True):
        if place is not None:
            own[partition_groups[place][0]].append(entry)
    return own


def _part(entries: Sequence[Entry], part: str) -> list[tuple[Entry, frozenset[int]]]:
    """Pairs each image of a part with the raw labels that it shows."""
    return [(e, e.present) for e in entries if part in e.parts]


def _fitting(
    images: Sequence[tuple[Entry, frozenset[int]]], rule: Callable[[frozenset[int]], bool]
) -> list[Entry]:
    """Chooses images by their classes; the rule is called once for each set of classes."""
    fitting = {present for present in {p for _, p in images} if rule(present)}
    return [e for e, present in images if present in fitting]


def _list(
    scenario: Scenario,
    step: Step,
    classes: ClassTable,
    visible: Sequence[int],
    entries: Sequence[Entry],
    *,
    tests: bool = False,
) -> ImageList:
    images = [[e.name, e.digest] for e in entries]
    ignored, later = list(scenario.ignored), []
    if scenario.setting == LISTED:
        ignored, later = later_classes(scenario, classes, entries)
    return ImageList(
        step.name, step.index, classes, sorted(visible), images, ignored, later if tests else []
    )
