"""What a stage holds: a continual run and its steps, to be told what happens."""

import contextlib
import json
import math
import os
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self, final

from cssegcore.core.config import flatten
from cssegcore.core.files import digest

from ..common.cli import is_main
from .journal import Journal
from .sender import ensure_sender, mode
from .tracker import PARENT, Ended, Metrics, Opened, RunInfo, Scalar, State

# Where a dataset lies is no part of what a run is.
_PLACES = frozenset({"dataset.root"})


class _Part:
    """What a stage says about the run or one step of it; without a journal nothing is kept."""

    def __init__(self, journal: Journal | None, part: str) -> None:
        self._journal = journal
        self._part = part

    def metrics(self, values: Mapping[str, float | None], *, step: int) -> None:
        """Records a point of each curve.

        Args:
            values: By curve, e.g. `miou/old`. None, NaN and infinity are left out: a mean over
                no class is no point.
            step: Its place on the horizontal axis.
        """
        known = {key: float(value) for key, value in values.items() if value is not None}
        finite = {key: value for key, value in known.items() if math.isfinite(value)}
        if finite and self._journal:
            self._journal.append(Metrics(part=self._part, step=step, values=finite))

    def artifacts(self, path: Path, folder: str = "") -> None:
        """Records a file, or all that is in a folder, to be shown under `folder`."""
        if self._journal:
            self._journal.append_files(path, part=self._part, folder=folder)

    def model(self, path: Path, registered: str = "") -> None:
        """Records a model's file, to be offered as an MLflow model, and registered by a name."""
        if self._journal:
            self._journal.append_model(path, part=self._part, registered=registered)

    def finish(self, state: State = "FINISHED") -> None:
        """Records that this is over."""
        if self._journal:
            self._journal.append(Ended(part=self._part, state=state))


@final
class StepRun(_Part):
    """One step of a continual run."""


@final
class Run(_Part):
    """A continual run, or what one stage has to say about it.

    As a context it closes the journal at the end. If the block raises, the run and those of its
    steps that this stage touched are marked as failed, or as killed by Ctrl-C.
    """

    def __init__(self, journal: Journal | None) -> None:
        super().__init__(journal, PARENT)
        self._steps: dict[str, StepRun] = {}

    def step(self, name: str) -> StepRun:
        """Returns the nested run of a step, e.g. `step1`."""
        return self._steps.setdefault(name, StepRun(self._journal, name))

    def close(self) -> None:
        """Closes the journal. The run itself stays open for the stages that follow."""
        if self._journal:
            self._journal.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:
            state = "KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED"
            for part in (*self._steps.values(), self):
                part.finish(state)
        self.close()


def open_run(info: RunInfo) -> Run:
    """Opens a run for recording, whether it is new or other stages have been at it.

    The experiment's name in DVC and the commit are added to its tags. Costs a few milliseconds.

    Raises:
        InputError: `CSSEGCORE_TRACKING` says neither on, later nor off.
    """
    if mode() == "off" or not is_main():
        return Run(None)
    tags = {**_surroundings(), **info.tags}
    run = Run(Journal(Opened(**vars(replace(info, tags=tags)))))
    ensure_sender()
    return run


def scalars(params: Mapping[str, object]) -> dict[str, Scalar]:
    """Turns nested parameters into dotted keys; a list, or an empty mapping, becomes its JSON."""
    return {
        key: value
        if value is None or isinstance(value, str | int | float | bool)
        else json.dumps(value, ensure_ascii=False)
        for key, value in flatten(params).items()
    }


def run_key(params: Mapping[str, object], code: str, data: str) -> str:
    """Returns 16 hex digits that two runs share exactly if parameters, code and data are the same.

    Args:
        params: All parameters that determine the run, nested or flat.
        code: A digest of the code that produced it.
        data: A digest of the images that it saw.
    """
    flat = {key: value for key, value in scalars(params).items() if key not in _PLACES}
    return digest(json.dumps(flat, sort_keys=True).encode(), code.encode(), data.encode())


def _surroundings() -> dict[str, str]:
    """Returns where the run comes from, as far as that can be told."""
    tags = {}
    if name := os.environ.get("DVC_EXP_NAME"):
        tags["dvc.exp_name"] = name
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        command = ["git", "rev-parse", "HEAD"]
        answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=5)
        tags["mlflow.source.git.commit"] = answer.stdout.strip()
    return tags
