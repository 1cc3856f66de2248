"""Which class arrives when, which image belongs to which step, and raw label -> network output.

The rules are those of Cermelli et al. (MiB, CVPR 2020), which the field shares; the sequential one
is that of Michieli and Zanuttigh (ICCV Workshops 2019). Raw labels are the reader's: 0 background,
1..n the classes in the dataset's order, 255 void. Network outputs stand in learning order:
background, then the classes of step 0 as listed, of step 1, …; so an output's index differs from
the raw label where a scenario is not sorted.
"""

import dataclasses
import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cssegcore.core.config import did_you_mean, parse
from cssegcore.core.errors import InputError
from cssegcore.core.files import write_text
from cssegcore.core.names import unfit
from cssegcore.core.types import BACKGROUND, IGNORE

Setting = Literal["overlapped", "disjoint", "sequential", "partitioned", "domain", "domain_apart"]
DOMAIN_SETTINGS = ("domain", "domain_apart")
"""Steps bring images of other domains, such as cities, and all classes are learned in the first."""
Void = Literal["ignore", "background"]


@dataclasses.dataclass(frozen=True)
class Step:
    """One learning step: `classes` are those it adds, `raw` their labels in the dataset.

    `partition_groups` are the groups of `raw` among which `partitioned` shares the images out; the
    step has those of all its groups. One group, unless the scenario names finer ones. `domains` are
    where its images were taken, if steps bring domains.
    """

    name: str
    index: int
    classes: tuple[str, ...]
    raw: tuple[int, ...]
    partition_groups: tuple[tuple[int, ...], ...]
    domains: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Scenario:
    """Steps in order, and the rule that gives each its images."""

    setting: Setting
    steps: tuple[Step, ...]

    @classmethod
    def of(
        cls,
        setting: Setting,
        table: Sequence[str],
        steps: Mapping[str, Sequence[str]],
        partition_groups: Mapping[str, Sequence[Sequence[str]]] | None = None,
        domains: Mapping[str, Sequence[str]] | None = None,
    ) -> "Scenario":
        """Checks the class lists of `steps` against the dataset's `table` (background first).

        Args:
            setting: The rule.
            table: Names of the raw labels.
            steps: The classes that each adds.
            partition_groups: Of a step's classes, where `partitioned` shares images out more
                finely.
            domains: Those that each step adds, in a setting by domains.

        Raises:
            InputError: A class is unknown, stands in two steps or in none, a step has none, or the
                partition_groups of a step do not hold each of its classes once; or the domains do
                not fit the setting or the steps.
        """
        finer = partition_groups or {}
        places = domains or {}
        _check_portions(finer, steps)
        _check_domains(setting, places, steps)
        taken: dict[str, str] = {}
        made = []
        for index, (name, classes) in enumerate(steps.items()):
            if not classes and (index == 0 or not places):
                raise InputError(f"`scenario.classes.{name}` is empty: give the step a class.")
            for wanted in classes:
                _check_class(wanted, name, table, taken)
                taken[wanted] = name
            raw = tuple(table.index(c) for c in classes)
            groups = tuple(tuple(map(table.index, p)) for p in finer.get(name, [classes]))
            made.append(Step(name, index, tuple(classes), raw, groups, tuple(places.get(name, ()))))
        if left := [c for c in table[1:] if c not in taken]:
            raise InputError(
                f"`scenario.classes`: no step learns {', '.join(left)}; add them to a step's list."
            )
        return cls(setting, tuple(made))

    @property
    def by_domain(self) -> bool:
        """Whether steps bring domains instead of classes."""
        return self.setting in DOMAIN_SETTINGS

    def trains(self, present: Collection[int], index: int) -> bool:
        """Whether an image that holds the raw labels `present` is a training image of a step.

        overlapped: it shows a class of the step. disjoint, sequential: and no class of a later
        step.

        Raises:
            ValueError: The setting is `partitioned`, where that depends on all images
                (`cssegcore.scenario.partition`).
        """
        if self.setting == "partitioned":
            raise ValueError("a partition is of all images; ask `training_images`")
        step = self.steps[index]
        if not any(raw in present for raw in step.raw):
            return False
        later = {raw for s in self.steps[index + 1 :] for raw in s.raw}
        return self.setting == "overlapped" or later.isdisjoint(present)

    def annotated(self, index: int) -> list[int]:
        """Lists the raw labels that a step may read: all seen if sequential, else its own."""
        first = 0 if self.setting == "sequential" or self.by_domain else index
        return sorted(raw for s in self.steps[first : index + 1] for raw in s.raw)

    def tests(self, present: Collection[int], index: int) -> bool:
        """Whether an image is in the cumulative test set: it shows any class seen so far."""
        return any(raw in present for s in self.steps[: index + 1] for raw in s.raw)


def _check_class(wanted: str, step: str, table: Sequence[str], taken: Mapping[str, str]) -> None:
    key = f"`scenario.classes.{step}`"
    if wanted == table[BACKGROUND]:
        raise InputError(f"{key} lists {wanted!r}, which every step has by itself: leave it out.")
    if wanted not in table:
        raise InputError(
            f"{key}: the dataset has no class {wanted!r}.{did_you_mean(wanted, table[1:])}"
            f" Known: {', '.join(table[1:])}."
        )
    if wanted in taken:
        raise InputError(f"{key}: {wanted!r} is learned in {taken[wanted]} already.")


def _check_portions(
    partition_groups: Mapping[str, Sequence[Sequence[str]]], steps: Mapping[str, Sequence[str]]
) -> None:
    for name, groups in partition_groups.items():
        key = f"`scenario.partition_groups.{name}`"
        if name not in steps:
            raise InputError(
                f"{key} is of no step.{did_you_mean(name, steps)} Steps: {', '.join(steps)}."
            )
        listed = [c for group in groups for c in group]
        for c in [*steps[name], *listed]:
            times = listed.count(c)
            if times != 1 or c not in steps[name]:
                known = "" if c in steps[name] else ", and the step does not learn it"
                raise InputError(
                    f"{key} lists {c!r} {times} times{known}: list each class of"
                    f" `scenario.classes.{name}` once, or take {key} out."
                )


def _check_domains(
    setting: Setting, domains: Mapping[str, Sequence[str]], steps: Mapping[str, Sequence[str]]
) -> None:
    if setting not in DOMAIN_SETTINGS:
        if domains:
            raise InputError(
                f"`scenario.setting` is {setting!r}, but `scenario.domains` says where each step's"
                f" images are from: set it to {DOMAIN_SETTINGS[0]!r} or {DOMAIN_SETTINGS[1]!r}."
            )
        return
    if list(domains) != list(steps):
        raise InputError(
            f"`scenario.setting` is {setting!r}, so `scenario.domains` must name the domains of"
            f" {', '.join(steps)}; got those of {', '.join(domains) or 'none'}."
        )
    first, *later = steps
    if added := [name for name in later if steps[name]]:
        raise InputError(
            f"`scenario.classes.{added[0]}` adds classes, but by domains all are learned in"
            f" {first}: move them there and leave the list empty."
        )
    listed = [domain for name in domains for domain in domains[name]]
    if twice := [domain for domain in listed if listed.count(domain) > 1]:
        raise InputError(f"`scenario.domains` names {twice[0]!r} twice: a domain comes once.")


@dataclasses.dataclass(frozen=True)
class StepList:
    """The images of one step for one purpose, and what their labels mean there.

    Attributes:
        step: Name of the step, and `index` its place.
        classes: Names of the network outputs, a list for each step, background first. A test list
            names those of later steps as well: their pixels are counted apart.
        raw: The raw label of each of `classes`.
        visible: Raw labels whose annotation may be read; all others read as background.
        images: Name and content digest of each image, so that a changed photograph or label
            changes the lists it stands in and nothing else.
        void: What raw 255 reads as. A training's parameter and so in no file: lists are read with
            `ignore`, which is what tests count with.
    """

    step: str
    index: int
    classes: list[list[str]]
    raw: list[list[int]]
    visible: list[int]
    images: list[list[str]]
    void: Void = "ignore"

    def label_table(self) -> NDArray[np.uint8]:
        """Returns the 256-entry table raw label -> position in `classes`, or 255."""
        table = np.full(256, BACKGROUND, np.uint8)
        outputs = [raw for step in self.raw for raw in step]
        for raw in self.visible:
            table[raw] = outputs.index(raw)
        table[IGNORE] = IGNORE if self.void == "ignore" else BACKGROUND
        return table

    @property
    def names(self) -> list[str]:
        """Names of the images, in order."""
        return [name for name, _ in self.images]

    def write(self, path: Path) -> None:
        """Writes JSON with one image a line, so that a person and `diff` can read it."""
        left_out = ("images", "void")
        head = {k: v for k, v in vars(self).items() if k not in left_out}
        lines = [f' "{k}": {json.dumps(v, ensure_ascii=False)}' for k, v in head.items()]
        images = ",\n  ".join(json.dumps(i, ensure_ascii=False) for i in self.images)
        write_text(path, "{\n" + ",\n".join(lines) + f',\n "images": [\n  {images}\n ]\n}}\n')

    @classmethod
    def read(cls, path: Path) -> "StepList":
        """Reads what `write` wrote.

        Raises:
            InputError: The file is missing or not such a list.
        """
        try:
            image_list = parse(cls, json.loads(path.read_bytes()), str(path))
        except FileNotFoundError:
            raise InputError(f"{path} does not exist: run `dvc repro split`.") from None
        except (ValueError, RecursionError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"{path} is not JSON ({error}): run `dvc repro -f split`.") from None
        image_list._check(path)
        return image_list

    def _check(self, path: Path) -> None:
        """Refuses a file that `write` did not write: its names become those of files."""
        raw = {label for step in self.raw for label in step}
        fits = [len(names) for names in self.classes] == [len(labels) for labels in self.raw]
        fits &= raw <= {*range(IGNORE)} and raw.issuperset(self.visible)
        if not fits or any(len(image) != 2 or unfit(image[0]) for image in self.images):
            raise InputError(f"{path} is damaged: run `dvc repro -f split`.")
