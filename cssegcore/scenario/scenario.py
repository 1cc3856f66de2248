"""Steps of a scenario: their classes, the rule for their images, and raw label -> output.

The rules are those of Cermelli et al. (MiB, CVPR 2020), which the field shares; the sequential one
is that of Michieli and Zanuttigh (ICCV Workshops 2019). Raw labels are the reader's: 0 background,
1..n the classes in the dataset's order, 255 void. Network outputs stand in learning order:
background, then the classes of step 0 as listed, of step 1, …; so an output's index differs from
the raw label where a scenario is not sorted.
"""

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import Literal

from cssegcore.core.class_table import ClassTable
from cssegcore.core.config import did_you_mean
from cssegcore.core.errors import InputError
from cssegcore.core.types import BACKGROUND, ClassSetting
from cssegcore.scenario.choices import check_left_out, check_partition
from cssegcore.scenario.lists import LISTED, StepLists, check_lists
from cssegcore.scenario.partition import PartitionRule

Setting = Literal[ClassSetting, "domain", "domain_apart"]
LeftOut = Literal["background", "void"]
DOMAIN_SETTINGS = ("domain", "domain_apart")
"""Steps bring images of other domains, such as cities, and all classes are learned in the first."""


@dataclasses.dataclass(frozen=True)
class Step:
    """One learning step: `classes` are its new classes, `raw` their labels in the dataset.

    `partitioned` divides the images among the groups `partition_groups`; the step has the images
    of all its groups. There is one group of all classes, unless the scenario names finer ones:

    >>> table = ["background", "cat", "dog", "sheep"]
    >>> steps = {"step0": ["cat"], "step1": ["sheep", "dog"]}
    >>> Scenario.of("partitioned", table, steps).steps[1].partition_groups
    ((3, 2),)
    >>> finer = {"step1": [["sheep"], ["dog"]]}
    >>> Scenario.of("partitioned", table, steps, partition_groups=finer).steps[1].partition_groups
    ((3,), (2,))

    `domains` are the places where its images were taken, if steps bring domains. `annotated` are
    the raw labels that it may read and `lists` its images, if it names them itself.
    """

    name: str
    index: int
    classes: tuple[str, ...]
    raw: tuple[int, ...]
    partition_groups: tuple[tuple[int, ...], ...]
    domains: tuple[str, ...] = ()
    annotated: tuple[int, ...] = ()
    lists: StepLists | None = None


@dataclasses.dataclass(frozen=True)
class Scenario:
    """Steps in order, and the rule that gives each its images.

    Attributes:
        setting: The rule.
        steps: The steps in order.
        ignored: Raw labels of the classes that no step learns, if they are void.
        unlearned: Raw labels of the classes that no step learns, if they are void or background.
        partition: Rule by which `partitioned` gives images to steps.
    """

    setting: Setting
    steps: tuple[Step, ...]
    ignored: tuple[int, ...] = ()
    unlearned: tuple[int, ...] = ()
    partition: PartitionRule = dataclasses.field(default_factory=PartitionRule)

    @classmethod
    def of(
        cls,
        setting: Setting,
        table: Sequence[str],
        steps: Mapping[str, Sequence[str]],
        partition_groups: Mapping[str, Sequence[Sequence[str]]] | None = None,
        domains: Mapping[str, Sequence[str]] | None = None,
        left_out: LeftOut | None = None,
        lists: Mapping[str, StepLists] | None = None,
        partition: PartitionRule | None = None,
    ) -> "Scenario":
        """Checks the class lists of `steps` against the dataset's `table` (background first).

        Args:
            setting: The rule.
            table: Names of the raw labels.
            steps: The classes that each adds.
            partition_groups: Groups of a step's classes, where `partitioned` shares images out more
                finely.
            domains: Domains that each step adds, in a setting by domains.
            left_out: Meaning of the classes that no step learns; None if there must be none, or,
                where steps list their images, if they are classes to come.
            lists: The images of each step, where steps list them.
            partition: Rule by which `partitioned` gives images to steps; None for MiB's.

        Raises:
            InputError: A class is unknown, stands in two steps or in none, a step has none, or the
                `partition_groups` of a step do not hold each of its classes once; the domains or
                lists do not fit the setting or the steps; or `partition` or `left_out` act on
                nothing.
        """
        finer = partition_groups or {}
        places, listed = domains or {}, lists or {}
        _check_portions(finer, steps)
        _check_domains(setting, places, steps)
        check_lists(setting, listed, steps)
        check_partition(setting, partition or PartitionRule())
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
            own = listed.get(name)
            readable = (own and own.annotated) or classes
            made.append(
                Step(
                    name,
                    index,
                    tuple(classes),
                    raw,
                    groups,
                    domains=tuple(places.get(name, ())),
                    annotated=tuple(map(table.index, readable)),
                    lists=own,
                )
            )
        left = [c for c in table[1:] if c not in taken]
        check_left_out(setting, left_out, left)
        unlearned = tuple(map(table.index, left)) if left_out else ()
        ignored = unlearned if left_out == "void" else ()
        return cls(setting, tuple(made), ignored, unlearned, partition or PartitionRule())

    def class_table(self, background: str, known: int) -> ClassTable:
        """Returns the outputs of the first `known` steps; background is the first of step 0."""
        steps = self.steps[:known]
        return ClassTable.of(
            [[background] * (s.index == 0) + list(s.classes) for s in steps],
            [[BACKGROUND] * (s.index == 0) + list(s.raw) for s in steps],
        )

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
                (`cssegcore.scenario.partition`), or `listed`, where it depends on none.
        """
        if self.setting == LISTED:
            raise ValueError("steps list their images; ask `step_lists`")
        if self.setting == "partitioned":
            raise ValueError("a partition is of all images; ask `training_images`")
        step = self.steps[index]
        if not any(raw in present for raw in step.raw):
            return False
        later = {raw for s in self.steps[index + 1 :] for raw in s.raw}
        return self.setting == "overlapped" or later.isdisjoint(present)

    def annotated(self, index: int) -> list[int]:
        """Lists the raw labels that a step may read: all seen if sequential, else its own.

        A step that lists its images says which.
        """
        if self.setting == LISTED:
            return sorted(self.steps[index].annotated)
        first = 0 if self.setting == "sequential" or self.by_domain else index
        return sorted(raw for s in self.steps[first : index + 1] for raw in s.raw)

    def tests(self, present: Collection[int], index: int) -> bool:
        """Whether an image is in the cumulative test set: it shows any class seen so far."""
        return any(raw in present for s in self.steps[: index + 1] for raw in s.raw)


def _check_class(wanted: str, step: str, table: Sequence[str], taken: Mapping[str, str]) -> None:
    key = f"`scenario.classes.{step}`"
    if wanted == table[BACKGROUND]:
        raise InputError(
            f"{key} lists {wanted!r}, the first name of the dataset's class table and so its"
            " background, which every step has by itself: leave it out. If it is no background, put"
            " a name for that before it in the table."
        )
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
