"""Counts of a dataset's and a scenario's images, before anything trains."""

import collections
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from cssegcore.data.image_list import ImageList
from cssegcore.data.index import Entry
from cssegcore.scenario.scenario import Scenario

Lists = Mapping[str, Mapping[str, ImageList]]
"""Lists of each step, by step and kind, as `step_lists` returns them."""


class ClassCount(NamedTuple):
    """A class of the dataset.

    Attributes:
        name: Its name.
        raw: Its raw label.
        step: The step that learns it; "" for the background and for classes that no step learns.
        images: Images of the dataset that show it.
        pixels: Its pixels in them.
        share: Their share of all pixels but void ones.
    """

    name: str
    raw: int
    step: str
    images: int
    pixels: int
    share: float


class StepCount(NamedTuple):
    """A class in the images of a step.

    Attributes:
        step: The step.
        name: Name of the class.
        role: `new` in the step, `old`, or to come `later`.
        train: Training images that show it.
        is_read: Whether training reads its labels; if not, it is background there.
        test: Test images of the step that show it.
    """

    step: str
    name: str
    role: str
    train: int
    is_read: bool
    test: int


class SharedImage(NamedTuple):
    """An image in two lists, or two images with the same photograph.

    Attributes:
        name: Its name in the first list.
        other: Its name in the second.
        first: The first list, STEP/KIND.
        second: The second.
    """

    name: str
    other: str
    first: str
    second: str

    @property
    def is_leak(self) -> bool:
        """Whether it is trained on and looked at in a test."""
        return "/train" in self.first and "/train" not in self.second


def count_classes(
    scenario: Scenario, entries: Sequence[Entry], table: Sequence[str]
) -> list[ClassCount]:
    """Counts every class over the whole dataset, background first."""
    learns = {raw: step.name for step in scenario.steps for raw in step.raw}
    pixels = [sum(entry.pixels[raw] for entry in entries) for raw in range(len(table))]
    images = collections.Counter(raw for entry in entries for raw in entry.present)
    whole = sum(pixels) or 1
    return [
        ClassCount(name, raw, learns.get(raw, ""), images[raw], pixels[raw], pixels[raw] / whole)
        for raw, name in enumerate(table)
    ]


def count_steps(
    scenario: Scenario, lists: Lists, entries: Sequence[Entry], table: Sequence[str]
) -> list[StepCount]:
    """Counts the images of every step that show each class; classes without any are left out."""
    present = {entry.name: entry.present for entry in entries}
    learned = {raw: step.index for step in scenario.steps for raw in step.raw}
    rows = []
    for step in scenario.steps:
        own = lists[step.name]
        train, test = (
            collections.Counter(raw for name in own[kind].names for raw in present[name])
            for kind in ("train", "test")
        )
        for raw, name in list(enumerate(table))[1:]:
            at = learned.get(raw, len(scenario.steps))
            role = "new" if at == step.index else "old" if at < step.index else "later"
            is_read = raw in own["train"].visible
            if train[raw] or test[raw] or role == "new":
                rows.append(StepCount(step.name, name, role, train[raw], is_read, test[raw]))
    return rows


def shared_images(lists: Lists, entries: Iterable[Entry] = ()) -> list[SharedImage]:
    """Finds images that two training lists share, or a training list and one that is held out.

    Tests share images by design: each holds those of the step before.

    Args:
        lists: The lists.
        entries: The images, by whose photographs two names are of one; without, they are if
            photograph and label image are the same files.
    """
    alone = {entry.name: entry.photograph for entry in entries}
    kinds = ("train", "val", "test")
    named = {
        f"{s}/{kind}": {name: alone.get(name) or digest for name, digest in of[kind].images}
        for s, of in lists.items()
        for kind in kinds
        if kind in of
    }
    train = [place for place in named if place.endswith("/train")]
    pairs = [
        *itertools.combinations(train, 2),
        *((place, other) for place in train for other in named if other not in train),
    ]
    found = (image for a, b in pairs for image in _shared(named[a], named[b], a, b))
    inside = (image for place in train for image in _twins(named[place], place))
    return [*found, *inside]


def _shared(
    one: Mapping[str, str], two: Mapping[str, str], first: str, second: str
) -> Iterator[SharedImage]:
    digests = {digest: name for name, digest in one.items() if digest}
    for name, digest in two.items():
        if name in one:
            yield SharedImage(name, name, first, second)
        elif digest in digests:
            yield SharedImage(digests[digest], name, first, second)


def _twins(images: Mapping[str, str], place: str) -> Iterator[SharedImage]:
    """Yields images of one list that have the same photograph."""
    seen: dict[str, str] = {}
    for name, digest in images.items():
        if digest and seen.setdefault(digest, name) != name:
            yield SharedImage(seen[digest], name, place, place)
