"""What a journal says: one event a line, as JSON."""

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Literal

from stages.tracking.naming import Scalar

State = Literal["FINISHED", "FAILED", "KILLED"]
"""How a run ended, in MLflow's words."""

PARENT = ""
"""The part that stands for the continual run itself; the others are its steps."""


@dataclass(frozen=True)
class RunInfo:
    """One continual run: a method on a scenario with a seed.

    Attributes:
        key: Its identity; see `run_key`.
        experiment: The MLflow experiment, shared by all runs that may be compared.
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
    """Returns milliseconds since 1970, MLflow's clock."""
    return time.time_ns() // 1_000_000


@dataclass(frozen=True)
class Opened(RunInfo):
    """First line of every journal: the run that all the others are about."""

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
class Ended:
    """A run, or one step of it, is over."""

    part: str
    state: State
    time: int = field(default_factory=now)


@dataclass(frozen=True)
class Closed:
    """The writer left in good order; a journal without this line was cut off."""

    time: int = field(default_factory=now)


Event = Opened | Metrics | Artifacts | Ended | Closed

_KINDS: dict[str, type[Event]] = {
    kind.__name__: kind for kind in (Opened, Metrics, Artifacts, Ended, Closed)
}


def encode(event: Event) -> bytes:
    """Returns the event as one line; JSON escapes every line end within."""
    return json.dumps({"kind": type(event).__name__, **asdict(event)}).encode() + b"\n"


def decode(line: bytes) -> Event | None:
    """Reads a line, or gives None if it is no event: torn by a full disk, or of another version."""
    try:
        fields = json.loads(line)
        return _KINDS[fields.pop("kind")](**fields)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
