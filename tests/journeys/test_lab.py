"""Two people of a lab share base step, cache and MLflow's server; a third has no disk with them.

One story from a repository to its end, with the real pipeline; `tests/clusters` has the details.
The test prints what ran (`pytest -s`).
"""

import csv
import subprocess
from pathlib import Path

import pytest

from tests.helpers.dvc_project import Project, ran
from tests.helpers.model_server import mlflow_server
from tests.helpers.tiny_dataset import BEFORE_STEP, BEFORE_TRAINING

pytestmark = [pytest.mark.dvc, pytest.mark.long]

SCENARIO = "scenario=shapes/6-2"
STEP1 = {f"{stage}@step1" for stage in (*BEFORE_STEP, "train", "evaluate")}
EMPTY = {f"{stage}@step1" for stage in BEFORE_STEP}
"""With nothing to do in these methods."""


class Person(Project):
    """A clone of the lab's repository, whose runs are told to the server."""

    def __init__(self, root: Path, of: Project, port: int) -> None:
        subprocess.run(["git", "clone", "-q", of.root, root], check=True)
        self.root, self._path = root, of._path
        self._settings = (
            f"MLFLOW_TRACKING_URI=http://127.0.0.1:{port}",
            "CSSEGCORE_TRACKING=later",
            "CSSEGCORE_MODELS=off",
        )
        self.run("git", "config", "user.email", "tests@example.org")
        self.run("git", "config", "user.name", "tests")

    def run(self, *command: str) -> str:
        return super().run("env", *self._settings, *command)

    def train(self, method: str, *how: str) -> set[str]:
        """Runs a method, tells the server, and returns which stages ran."""
        self.compose(SCENARIO, f"method={method}")
        stages = ran(self.run("dvc", "repro", *how))
        assert "events sent to" in self.run("python", "-m", "stages", "track")
        told = ", ".join(sorted(stages)) or "-"
        print(f"{self.root.name}, {method}: {len(stages)} stages: {told}")  # noqa: T201
        return stages

    def compared(self) -> dict[str, tuple[str, str]]:
        """Returns mean and number of runs of each method, as the server has them."""
        how = ("--source", "mlflow", "--format", "csv", "--metric", "all")
        text = self.run("python", "-m", "stages", "compare", *how)
        told = csv.DictReader(filter(None, text.splitlines()))
        rows = [row for row in told if row["mean"]]  # what else is said are notes
        return {row["method"].split()[0]: (row["mean"], row["runs"]) for row in rows}


@pytest.fixture
def lab(tmp_path: Path, commands: Path) -> Project:
    """The lab's repository: it names a cache that all share, and a remote."""
    for folder in ("main", "cache", "store", "server"):
        (tmp_path / folder).mkdir()
    lab = Project(tmp_path / "main", commands)
    numbers = ("--base", "6", "--increment", "2")
    lab.run("python", "-m", "stages", "scenario", "shapes/6-2", *numbers)
    lab.run("dvc", "remote", "add", "-d", "lab", str(tmp_path / "store"))
    lab.run("dvc", "push", "-q")
    lab.run("dvc", "cache", "dir", str(tmp_path / "cache"))
    lab.run("dvc", "config", "cache.shared", "group")
    lab.run("git", "add", "-A")
    lab.run("git", "commit", "-qm", "A shared cache and remote")
    return lab


def test_a_lab_shares_base_step_cache_and_server(lab: Project, tmp_path: Path) -> None:
    store = ("--backend-store-uri", f"sqlite:///{tmp_path / 'server' / 'mlflow.db'}")
    files = ("--artifacts-destination", str(tmp_path / "server" / "files"))
    command = ("server", "--host", "127.0.0.1", "--workers", "1", *store, *files)
    with mlflow_server(*command, ready="/health", settings={}, folder=tmp_path / "server") as port:
        anna, ben = (Person(tmp_path / name, lab, port) for name in ("anna", "ben"))
        anna.run("dvc", "pull", "-q", "data.dvc")
        base = {"train@step0", "evaluate@step0"}
        assert anna.train("mib") == {*BEFORE_TRAINING, "report"} | base | STEP1
        anna.run("dvc", "push", "-q", "--run-cache")  # each one's own: see docs/clusters.md

        ben.run("dvc", "checkout", "-q", "data.dvc")  # the cache has it by now
        assert ben.train("ft") - EMPTY == {"check", "report", "train@step1", "evaluate@step1"}
        assert ben.metrics()["work/step0/metrics.json"] == anna.metrics()["work/step0/metrics.json"]

        # by the remote, on a machine that has another cache
        ben.run("dvc", "push", "-q", "--run-cache")
        cara = Person(tmp_path / "cara", lab, port)
        cara.run("dvc", "cache", "dir", "--local", str(tmp_path / "of_cara"))
        cara.run("dvc", "pull", "-q", "data.dvc")
        assert cara.train("mib", "--pull") == set()
        assert cara.metrics() == anna.metrics()

        found = cara.compared()
        assert {name: runs for name, (_, runs) in found.items()} == {"mib": "1", "ft": "1"}
        assert found == anna.compared() == ben.compared()
