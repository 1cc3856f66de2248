"""Runs to track, a tracker that keeps them, and a look into MLflow."""

import os
import subprocess
import sys
from pathlib import Path

from stages import tracking
from stages.tracking.journal import journals, spool
from stages.tracking.sender import Sender
from stages.tracking.tracker import DeliveryError, RefusedError

HOME = Path(__file__).parents[2]

INFO = tracking.RunInfo(
    key="0123456789abcdef",
    experiment="shapes/4-2 overlapped",
    name="mib · seed 1",
    params={"method.name": "mib", "seed": 1, "odd key (%)": "x"},
    tags={"method": "mib"},
)


class Memory:
    """The simplest tracker: it keeps all that it was told, also what it was told
    twice."""

    address = "memory"

    def __init__(self) -> None:
        self.states: dict[str, str] = {}
        self.points: list[tuple[str, str, int, float]] = []
        self.files: list[str] = []
        self.down = False

    def begin(self, run, part, time):
        self._answer()
        if self.states.get(part) != "FINISHED":
            self.states[part] = "RUNNING"

    def log(self, run, points):
        self._answer()
        if any("//" in key for event in points for key in event.values):
            raise RefusedError("an empty path segment")
        self.points += [(e.part, k, e.step, v) for e in points for k, v in e.values.items()]

    def log_files(self, run, files, source):
        self._answer()
        self.files += [f"{files.folder}/{path.name}" for path in source.iterdir()]

    def log_model(self, run, model, source):
        self._answer()
        self.files += [f"{model.registered}:{path.name}" for path in source.iterdir()]

    def end(self, run, ending):
        self._answer()
        if self.states[ending.part] != "FINISHED":
            self.states[ending.part] = ending.state

    def curve(self, part, key):
        return [(step, value) for p, k, step, value in self.points if (p, k) == (part, key)]

    def _answer(self):
        if self.down:
            raise DeliveryError("away")


class Store:
    """What a person would find in MLflow."""

    def __init__(self, root: Path) -> None:
        from mlflow.tracking import MlflowClient

        self.client = MlflowClient(f"sqlite:///{root / 'mlflow.db'}")

    def all_runs(self):
        experiment = self.client.get_experiment_by_name(INFO.experiment)
        return self.client.search_runs([experiment.experiment_id])

    def runs(self):
        found = self.all_runs()
        by_part = {run.data.tags.get("cssegcore.step", "parent"): run for run in found}
        assert len(by_part) == len(found), "a run is there twice"
        return by_part

    def points(self, part, key):
        history = self.client.get_metric_history(self.runs()[part].info.run_id, key)
        return sorted((point.step, point.value) for point in history)

    def states(self):
        return {part: run.info.status for part, run in self.runs().items()}


def send(tracker=None):
    sender = Sender(tracker)
    sender.send()
    assert not sender.set_aside
    assert not [path for path in spool().glob("*.files") if not journals()], "copies are left"


def whole_run(report: Path):
    """Two steps and the report, as the stages tell them."""
    for index in (0, 1):
        with tracking.open_run(INFO) as run:
            step = run.step(f"step{index}")
            for epoch in (1, 2, 3):
                step.metrics({"loss/ce": 1 / (epoch + index), "lr": 0.1 / epoch}, step=epoch)
            step.finish()
            run.metrics({"miou/all": 60.0 - index}, step=index)
    with tracking.open_run(INFO) as run:
        run.artifacts(report, "report")
        run.finish()


def start_python(code):
    """Runs `code` in a process of its own, with `INFO` and `tracking` at hand."""
    begin = f"from stages import tracking\nINFO = tracking.{INFO!r}\n"
    return subprocess.Popen(
        [sys.executable, "-c", begin + code],
        env={**os.environ, "PYTHONPATH": str(HOME)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def python(code):
    """Waits for such a process; returns its exit status and what it said on stderr."""
    with start_python(code) as process:
        _, said = process.communicate()
    return process.returncode, said
