"""What a run has to say, and what a tracker must do with it."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

Scalar = str | int | float | bool | None

State = Literal["FINISHED", "FAILED", "KILLED"]

PARENT = ""
"""The part that stands for the continual run itself; the others are its steps."""


@dataclass(frozen=True)
class RunInfo:
    """One continual run: a method on a scenario with a seed.

    Attributes:
        key: Its identity; see `run_key`.
        experiment: A name that all runs share which may be compared.
        name: What a person reads in the list of runs.
        params: Flat parameters; see `scalars`.
        tags: Further facts, by name.
    """

    key: str
    experiment: str
    name: str
    params: Mapping[str, Scalar] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)


def now() -> int:
    """Returns milliseconds since 1970."""
    return time.time_ns() // 1_000_000


@dataclass(frozen=True)
class Opened(RunInfo):
    """First event of every journal: the run that all the others are about."""

    time: int = field(default_factory=now)


@dataclass(frozen=True)
class Metrics:
    """Values at one point of their curves."""

    part: str
    step: int
    values: Mapping[str, float]
    time: int = field(default_factory=now)


@dataclass(frozen=True)
class Artifacts:
    """A folder of copies beside the journal, to be shown under `folder`."""

    part: str
    copies: str
    folder: str
    time: int = field(default_factory=now)


@dataclass(frozen=True)
class Packaged:
    """A model's file among the copies beside the journal, to be offered for serving.

    Attributes:
        part: The part that it belongs to.
        copies: The folder that holds it alone.
        registered: The name to register it under; "" for none.
        time: When that was said.
    """

    part: str
    copies: str
    registered: str
    time: int = field(default_factory=now)


@dataclass(frozen=True)
class Ended:
    """A run, or one step of it, is over."""

    part: str
    state: State
    time: int = field(default_factory=now)


@dataclass(frozen=True)
class Closed:
    """The writer left in good order; a journal without this event was cut off."""

    time: int = field(default_factory=now)


Event = Opened | Metrics | Artifacts | Packaged | Ended | Closed


class DeliveryError(Exception):
    """The tracker did not take what was sent: it is gone, slow or full. Later it may."""


class RefusedError(DeliveryError):
    """The tracker calls what was sent wrong, and will do so next time."""


class Tracker(Protocol):
    """A place where runs are shown. `stages.tracking.mlflow_backend` is the one we have.

    The sender calls it, never a stage, so it may take its time. Two senders may be at work at
    once, and after a failure everything is sent again: whatever is there already stays as it is
    and is not written twice. Runs are made when first needed.

    Every method raises `DeliveryError` if the tracker cannot be reached and `RefusedError` if it
    can but calls what was sent wrong; both messages are one line without a password.
    """

    @property
    def address(self) -> str:
        """Where this is, for messages: without a password."""
        ...

    def begin(self, run: Opened, part: str, time: int) -> None:
        """Shows a part as going on, unless it is finished, and the run's parameters and tags."""
        ...

    def log(self, run: Opened, points: Sequence[Metrics]) -> None:
        """Shows points of curves, all of one part."""
        ...

    def log_files(self, run: Opened, files: Artifacts, source: Path) -> None:
        """Shows all that is in the folder `source`, in place of files of the same names."""
        ...

    def log_model(self, run: Opened, model: Packaged, source: Path) -> None:
        """Offers the model whose file is in the folder `source`; failing to is no error."""
        ...

    def end(self, run: Opened, ending: Ended) -> None:
        """Shows that a part is over; a finished one stays finished."""
        ...
