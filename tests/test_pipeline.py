"""Real DVC on a copy of the project: which stages run, and that they give the same again.

One story in one copy, told in order, because what is cached is the point. `test_which_stages_run`
prints the table (`pytest -s`).
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from cssegcore.data.shapes import make_dataset
from tests.scenes import BEFORE_STEP, BEFORE_TRAINING

REPOSITORY = Path(__file__).resolve().parent.parent
pytestmark = pytest.mark.dvc

QUICK = [
    "schedule.base.epochs=2",
    "schedule.increment.epochs=1",
    "model.widths=[4,4,8]",
    "augmentation.size=32",
    "optimizer.batch_size=8",
    "evaluation.panels=2",
]


class Project:
    """A clone of the working tree with a small dataset, driven through the command line."""

    def __init__(self, root: Path) -> None:
        self.root = root
        listed = subprocess.run(
            ["git", "ls-files", "-co", "--exclude-standard"],
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            check=True,
        )
        for name in listed.stdout.split("\n"):
            source = REPOSITORY / name
            if name and source.is_file() and not name.startswith((".dvc/remote", "tests", "docs")):
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(source, root / name)
        for name in ("data.dvc", "dvc.lock"):
            (root / name).unlink(missing_ok=True)
        make_dataset(root / "data", seed=0, train=48, val=16, size=32)
        self.run("git", "init", "-q")
        self.run("git", "config", "user.email", "tests@example.org")
        self.run("git", "config", "user.name", "tests")
        self.compose()
        self.run("dvc", "add", "-q", "data")
        self.run("git", "add", "-A")
        self.run("git", "commit", "-qm", "start")

    def run(self, *command: str) -> str:
        """Runs a command in the project and returns what it printed."""
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("DVC_", "MLFLOW_"))}
        environment |= {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "OMP_NUM_THREADS": "1",
            "CSSEGCORE_TRACKING": "off",
            "CSSEGCORE_DEVICE": "cpu",
        }
        done = subprocess.run(
            command, cwd=self.root, capture_output=True, text=True, env=environment, check=False
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr

    def compose(self, *overrides: str) -> None:
        """Writes params.yaml as `dvc exp run -S …` would."""
        self.run(sys.executable, "-m", "stages.compose", "params.yaml", *QUICK, *overrides)

    def repro(self, *overrides: str) -> set[str]:
        """Composes, runs `dvc repro` and returns the stages whose command ran."""
        self.compose(*overrides)
        return ran(self.run("dvc", "repro"))

    def metrics(self) -> dict[str, bytes]:
        """Returns the bytes of every metrics file."""
        files = [*self.root.glob("work/step*/metrics.json"), self.root / "work/report/summary.json"]
        return {str(f.relative_to(self.root)): f.read_bytes() for f in files}


def ran(output: str) -> set[str]:
    """Reads from DVC's output which stages ran, not counting those restored from its cache."""
    return {
        line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage '")
    }


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return Project(tmp_path_factory.mktemp("project"))


def increments(*steps: int) -> set[str]:
    """Names the stages that a change of the method runs again at the given steps."""
    return {f"{stage}@step{i}" for i in steps for stage in ("train", "evaluate")}


BASE = {"train@step0", "evaluate@step0"}
EMPTY = {f"{stage}@step{i}" for i in (1, 2) for stage in BEFORE_STEP}
"""With nothing to do in most methods."""


def test_which_stages_run(project: Project) -> None:
    table = {}

    def step(change: str, *overrides: str) -> set[str]:
        table[change] = project.repro(*overrides)
        return table[change]

    everything = {*BEFORE_TRAINING, "report"} | BASE | EMPTY | increments(1, 2)
    assert step("first run (mib)", "method=mib") == everything
    mib = project.metrics()
    assert step("nothing", "method=mib") == set()

    # a model not seen before makes `memory` and its like look again, at the price of a process
    swapped = {"check", "report"} | increments(1, 2)
    assert step("method: ft after mib", "method=ft") - EMPTY == swapped, "step 0 is shared"
    ft = project.metrics()
    assert ft != mib

    assert step("back to mib", "method=mib") == set()
    assert project.metrics() == mib

    again = step("step 2's learning rate", "method=mib", "steps.step2.lr=0.011")
    assert again == {"check", "report"} | increments(2)

    assert step("method: joint after mib", "method=joint") - EMPTY == swapped

    other_base = {"check", "saliency", "report"} | BASE | EMPTY | increments(1, 2)
    assert step("method: ssul, with an unknown class", "method=ssul") == other_base

    kept = step("method: ssul_m after ssul", "method=ssul_m", "method.replay.size=4")
    assert kept == {"check", "report"} | EMPTY | increments(1, 2), "base and saliency are shared"

    longer = step("scenario: 4-1 after 4-2", "method=mib", "scenario=shapes/4-1")
    assert {"check", "split", "report"} <= longer
    assert "train@step0" not in longer, "the base classes and images are the same"
    assert "index" not in longer
    assert increments(1, 2, 3, 4) <= longer

    seeded = step("seed", "method=mib", "seed=2")
    assert seeded - EMPTY == {"check", "report"} | BASE | increments(1, 2)

    shutil.rmtree(project.root / "work")
    assert step("work/ deleted", "method=mib") == set()
    assert project.metrics() == mib

    width = max(map(len, table))
    for change, stages in table.items():
        print(f"{change:{width}}  {', '.join(sorted(stages)) or '-'}")  # noqa: T201


def test_the_same_command_gives_the_same_bytes(project: Project) -> None:
    project.repro("method=mib")
    before = project.metrics()
    models = {p: p.read_bytes() for p in project.root.glob("work/step*/model.safetensors")}
    assert len(models) == 3
    output = project.run("dvc", "repro", "--force", "--no-run-cache")
    assert "train@step0" in ran(output)
    assert project.metrics() == before
    assert {p: p.read_bytes() for p in models} == models


def test_comments_rerun_check_alone(project: Project) -> None:
    project.repro("method=mib")
    engine = project.root / "cssegcore" / "engine.py"
    engine.write_text(engine.read_text() + "\n# a remark\n")
    assert ran(project.run("dvc", "repro")) == {"check"}


def test_metrics_plots_and_parameters_are_declared(project: Project) -> None:
    project.repro("method=mib")
    shown = json.loads(project.run("dvc", "metrics", "show", "--json").split("WARNING")[0])
    files = next(iter(shown.values()))["data"]
    assert files["work/step2/metrics.json"]["data"]["miou"]["all"] is not None
    assert "average" in files["work/report/summary.json"]["data"]
    project.run("dvc", "plots", "show", "--out", "plots")
    page = (project.root / "plots" / "index.html").read_text()
    assert "mIoU over steps" in page
    project.compose("method=mib", "steps.step2.lr=0.5")
    assert "steps.step2.lr" in project.run("dvc", "params", "diff")


def test_experiments_compose_and_queue(project: Project) -> None:
    """`dvc exp run -S` swaps method and scenario; queued ones run in temporary copies."""
    project.repro("method=mib")
    project.run("git", "add", "-A")
    project.run("git", "commit", "-qm", "mib")
    quick = [argument for override in QUICK for argument in ("-S", override)]
    output = project.run("dvc", "exp", "run", *quick, "-S", "method=ft")
    assert "train@step0" not in ran(output)
    assert yaml.safe_load((project.root / "params.yaml").read_text())["method"]["name"] == "ft"
    project.run("dvc", "exp", "run", "--queue", "-n", "queued", *quick, "-S", "seed=7")
    project.run("dvc", "queue", "start")
    project.run("dvc", "queue", "logs", "queued", "-f")
    shown = project.run("dvc", "exp", "show", "--csv", "--no-pager")
    assert "queued" in shown
    assert "Success" in project.run("dvc", "queue", "status")
