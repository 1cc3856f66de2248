"""params.yaml as typed values: the only reader of the file."""

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import yaml

from cssegcore.core.class_table import Void
from cssegcore.core.config import did_you_mean, parse, shown
from cssegcore.core.errors import InputError
from cssegcore.core.files import read_text
from cssegcore.core.ranges import at_least, positive
from cssegcore.scenario.lists import StepLists
from cssegcore.scenario.partition import PartitionRule
from cssegcore.scenario.scenario import LeftOut, Scenario, Setting

from .home import invocation
from .plain_yaml import NotPlainError, PlainLoader

PARAMS = Path("params.yaml")
FIRST = "step0"
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]*")


@dataclasses.dataclass(frozen=True)
class StepParams:
    """`steps.NAME`: one step.

    Attributes:
        previous: The previous step, `none` for the first.
        recipe: The section that says how it is trained: `method.base` or `method`.
        images: The list that the step trains on.
        epochs: Passes over its images.
        lr: Learning rate at its first iteration.
    """

    MOVED: ClassVar[Mapping[str, str]] = {"prev": "steps.STEP.previous"}

    previous: str
    recipe: Literal["method.base", "method"]
    images: Literal["train", "seen"]
    epochs: int
    lr: float

    def __post_init__(self) -> None:
        at_least(1, epochs=self.epochs)
        positive(lr=self.lr)


@dataclasses.dataclass(frozen=True)
class ScenarioParams:
    """`scenario`: which class arrives when.

    Attributes:
        name: Name of the scenario.
        setting: The rule that gives steps their images.
        classes: Classes that each step learns.
        last: The last step.
        order: Name of the order of the classes; `native` is the dataset's own.
        partition_groups: Finer groups of a step's classes, for the setting `partitioned`.
        domains: Where each step's images were taken, for the settings by domain.
        left_out: Meaning of the dataset's classes that no step learns; null refuses such classes,
            or, where steps list their images, takes them for classes to come.
        lists: The images of each step, for the setting `listed`.
        partition: The rule of the setting `partitioned`.
    """

    MOVED: ClassVar[Mapping[str, str]] = {"portions": "scenario.partition_groups"}

    name: str
    setting: Setting
    classes: dict[str, list[str]]
    last: str
    order: str
    partition_groups: dict[str, list[list[str]]] = dataclasses.field(default_factory=dict)
    domains: dict[str, list[str]] = dataclasses.field(default_factory=dict)
    left_out: LeftOut | None = None
    lists: dict[str, StepLists] = dataclasses.field(default_factory=dict)
    partition: PartitionRule = dataclasses.field(default_factory=PartitionRule)

    @property
    def rule(self) -> str:
        """Says by which rule steps get their images."""
        if self.setting != "partitioned" or self.partition.rule == "mib":
            return self.setting
        return f"{self.setting} ({self.partition.rule}, seed {self.partition.seed})"


@dataclasses.dataclass(frozen=True)
class EvaluationParams:
    """`evaluation`: how test images are read and shown.

    Attributes:
        batch_size: Photographs at a time.
        future: Meaning of pixels of classes that are not learned yet.
        view: Whole photographs at their own size, or a `crop`: the shorter side resized
            to `size`, then the central square.
        size: Side of a crop, in pixels.
        examples: Number of photographs shown.
        metrics: Metrics beside those from the confusion matrix, by the name of their numbers.
        shared: Whether images that are trained on may be tested on.
    """

    MOVED: ClassVar[Mapping[str, str]] = {"panels": "evaluation.examples"}

    batch_size: int
    future: Literal["background", "ignore"]
    view: Literal["whole", "crop"]
    size: int
    examples: int
    metrics: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    shared: Literal["refuse", "allow"] = "refuse"

    def __post_init__(self) -> None:
        at_least(1, batch_size=self.batch_size, size=self.size)
        at_least(0, examples=self.examples)

    @property
    def reading(self) -> str:
        """Says how test images are read."""
        if self.view == "whole":
            return "whole photographs at their own size"
        return f"shorter side resized to {self.size}, central crop of {self.size} by {self.size}"


@dataclasses.dataclass(frozen=True)
class ValidationParams:
    """`validation`: how a training is watched on images that nobody tests on.

    Attributes:
        times: Number of epochs of a training that are measured, evenly spread.
        keep: The epoch whose weights are the result: the last one, or the best of those measured.
    """

    times: int = 5
    keep: Literal["last", "best"] = "last"

    def __post_init__(self) -> None:
        at_least(0, times=self.times)
        if self.keep == "best" and not self.times:
            raise ValueError("`keep` is best, so `times` must be >= 1, got 0")

    @property
    def selection(self) -> str:
        """Says which epoch's weights are tested; nothing of the last one's."""
        return "best epoch on validation images" if self.keep == "best" else ""


@dataclasses.dataclass(frozen=True)
class LabelParams:
    """`labels`: what raw 255, void, is in training; no test ever counts it."""

    void: Void


@dataclasses.dataclass(frozen=True)
class PhaseParams:
    """`schedule.base`, `schedule.increment`: what the steps are filled with."""

    epochs: int
    lr: float


@dataclasses.dataclass(frozen=True)
class ScheduleParams:
    """`schedule`: of the base step, and of all later ones."""

    base: PhaseParams
    increment: PhaseParams


@dataclasses.dataclass(frozen=True)
class IncrementParams:
    """`increments.NAME`: the previous step."""

    MOVED: ClassVar[Mapping[str, str]] = {"prev": "increments.STEP.previous"}

    previous: str


@dataclasses.dataclass(frozen=True)
class Params:
    """The whole file. Sections kept as mappings are built by the library's own parts."""

    seed: int
    evaluation: EvaluationParams
    labels: LabelParams
    method: dict[str, Any]
    dataset: dict[str, Any]
    model: dict[str, Any]
    optimizer: dict[str, Any]
    augmentation: dict[str, Any]
    schedule: ScheduleParams
    scenario: ScenarioParams
    steps: dict[str, StepParams]
    increments: dict[str, IncrementParams]
    validation: ValidationParams = dataclasses.field(default_factory=ValidationParams)

    def __post_init__(self) -> None:
        at_least(0, seed=self.seed)

    def step(self, name: str) -> StepParams:
        """Returns the section of a step.

        Raises:
            InputError: There is no such step.
        """
        if name not in self.steps:
            raise InputError(
                f"`steps` in {PARAMS} has no {shown(name)}.{did_you_mean(name, self.steps)}"
                f" Known: {', '.join(self.steps)}."
            )
        return self.steps[name]

    def scenario_of(self, table: tuple[str, ...]) -> Scenario:
        """Builds the scenario over a dataset's class table."""
        given = self.scenario
        return Scenario.of(
            given.setting,
            table,
            given.classes,
            given.partition_groups,
            given.domains,
            given.left_out,
            given.lists,
            given.partition,
        )

    def check_chain(self) -> None:
        """Checks that the steps follow each other as `dvc.yaml` will chain them.

        Raises:
            InputError: A `previous`, `increments` or `scenario.last` does not fit the steps.
        """
        names = list(self.scenario.classes)
        if list(self.steps) != names:
            raise InputError(
                f"`steps` must be those of `scenario.classes` ({', '.join(names)}), got"
                f" {', '.join(self.steps) or 'none'}."
            )
        if strange := [name for name in names if not NAME.fullmatch(name)]:
            raise InputError(
                f"`scenario.classes` has a step {shown(strange[0])}: stages make folders of steps'"
                " names, so use letters, digits, `_` and `-`."
            )
        if not names or names[0] != FIRST:
            raise InputError(f"the first of `scenario.classes` must be {FIRST!r}, got {names[:1]}.")
        for name, previous in zip(names, ["none", *names[:-1]], strict=True):
            self._check_link(name, previous)
        chain = {name: IncrementParams(self.steps[name].previous) for name in names[1:]}
        if self.increments != chain:
            raise InputError(
                "`increments` must name every step but the first with its `previous`:"
                f" {', '.join(f'{k}: {{previous: {v.previous}}}' for k, v in chain.items())}."
            )
        if self.scenario.last != names[-1]:
            raise InputError(
                f"`scenario.last` must be {names[-1]!r}, got {shown(self.scenario.last)}."
            )

    def _check_link(self, name: str, previous: str) -> None:
        step = self.steps[name]
        if step.previous != previous:
            raise InputError(
                f"`steps.{name}.previous` must be {previous!r}, got {shown(step.previous)}."
            )
        if name == FIRST and (step.recipe != "method.base" or step.images != "train"):
            raise InputError(
                f"`steps.{name}` must have `recipe: method.base` and `images: train`: the base"
                " step is trained on its own list and shared by methods."
            )
        if name != FIRST and step.recipe != "method":
            raise InputError(f"`steps.{name}.recipe` must be 'method', got {step.recipe!r}.")


def read_raw(path: Path = PARAMS) -> dict[str, Any]:
    """Reads the file as plain data.

    Raises:
        InputError: The file is missing or no YAML mapping.
    """
    try:
        values = yaml.load(read_text(path), Loader=PlainLoader)
    except FileNotFoundError:
        raise InputError(
            f"there is no {path} in {Path.cwd()}: run from the repository's root."
        ) from None
    except NotPlainError as error:
        raise InputError(f"{path}, {error}.") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # text that is no UTF-8, a depth
        raise InputError(f"{path} is not YAML: {' '.join(str(error).split())}.") from None
    if not isinstance(values, dict):
        default = f"{invocation('compose')} {PARAMS}"
        raise InputError(f"{path} must hold a mapping: run `{default}` for the default.")
    return values


def read_params(path: Path = PARAMS) -> Params:
    """Reads and checks the file's keys and kinds.

    Raises:
        InputError: One line about the first key that is wrong.
    """
    raw = _read[path.resolve()] = read_raw(path)
    return parse(Params, raw, str(path))


def raw_as_read(path: Path = PARAMS) -> dict[str, Any]:
    """Returns the plain data that `read_params` last read; whatever the file says by now.

    Nothing if this process did not read it.
    """
    return _read.get(path.resolve(), {})


_read: dict[Path, dict[str, Any]] = {}
