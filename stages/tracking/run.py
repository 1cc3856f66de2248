"""What a stage holds: a continual run and its steps, to be told what happens."""

import contextlib
import math
import os
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self, final

from stages.tracking import places
from stages.tracking.background import ensure_sender
from stages.tracking.events import PARENT, Ended, Metrics, Opened, RunInfo, State
from stages.tracking.journal import Journal, Nowhere, Sink


class _Part:
    """A run of MLflow, seen from the stage that fills it."""

    def __init__(self, sink: Sink, part: str) -> None:
        self._sink = sink
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
        if finite:
            self._sink.append(Metrics(part=self._part, step=step, values=finite))

    def artifacts(self, path: Path, folder: str = "") -> None:
        """Records a file, or all that is in a folder, to be shown under `folder`."""
        self._sink.append_files(path, part=self._part, folder=folder)

    def finish(self, state: State = "FINISHED") -> None:
        """Records that this is over."""
        self._sink.append(Ended(part=self._part, state=state))


@final
class StepRun(_Part):
    """One step of a continual run."""


@final
class Run(_Part):
    """A continual run, or what one stage has to say about it.

    As a context it closes the journal at the end. If the block raises, the run and those of its
    steps that this stage touched are marked as failed, or as killed by Ctrl-C.
    """

    def __init__(self, sink: Sink) -> None:
        super().__init__(sink, PARENT)
        self._steps: dict[str, StepRun] = {}

    def step(self, name: str) -> StepRun:
        """Returns the nested run of a step, e.g. `step1`."""
        return self._steps.setdefault(name, StepRun(self._sink, name))

    def close(self) -> None:
        """Closes the journal. The run itself stays open for the stages that follow."""
        self._sink.close()

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
    """
    if not places.writes_journals():
        return Run(Nowhere())
    tags = {**_surroundings(), **info.tags}
    opened = Opened(**vars(replace(info, tags=tags)))
    run = Run(Journal(places.spool(), opened))
    ensure_sender()
    return run


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
