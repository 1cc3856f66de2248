"""Real DVC on a copy of the project: the same again, what is declared, experiments."""

import csv
import json
import shutil
from pathlib import Path

import pytest
import yaml

from tests.helpers.dvc_project import QUICK, Project, ran
from tests.helpers.tiny_dataset import composed

pytestmark = pytest.mark.dvc


MIB = ("scenario=shapes/6-2", "method=mib")
"""Two steps, so that there are fewer stages to run."""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, commands: Path) -> Project:
    project = Project(tmp_path_factory.mktemp("project"), commands)
    numbers = ("--base", "6", "--increment", "2")
    project.run("python", "-m", "stages.scenario", "shapes/6-2", *numbers)
    return project


@pytest.mark.long
def test_another_machine_trains_nothing_again(
    project: Project, tmp_path: Path, commands: Path
) -> None:
    """It takes what was pushed, without a `dvc.lock`; `stages.compare` finds pushed reports.

    First in this file: a stage that is forced to run twice leaves two notes in the run cache, and
    `dvc push` takes the files of the last alone.
    """
    project.repro(*MIB)
    project.run("dvc", "remote", "add", "-d", "lab", str(tmp_path / "store"))
    project.run("dvc", "push", "-q", "--run-cache")
    project.run("git", "add", "conf", "params.yaml", ".dvc/config")
    project.run("git", "commit", "-qm", "a remote")
    second = Project.cloned(project.root, tmp_path / "second", commands)
    assert not (second.root / "dvc.lock").exists()
    second.run("dvc", "pull", "-q", "data.dvc")
    assert ran(second.run("dvc", "repro", "--pull")) == set()
    assert second.metrics() == project.metrics()

    shutil.rmtree(second.root / ".dvc" / "cache")
    compare = ("bash", "-c", "python -m stages.compare --source dvc || true")
    assert "the workspace is left out: its report is not in DVC's cache: `dvc fetch report`" in (
        second.run(*compare)
    )
    second.run("dvc", "fetch", "-q", "report")
    assert "left out" not in second.run(*compare)


def test_the_same_command_gives_the_same_bytes(project: Project) -> None:
    project.repro(*MIB)
    before = project.metrics()
    models = {p: p.read_bytes() for p in project.root.glob("work/step*/model.safetensors")}
    assert len(models) == 2
    shutil.rmtree(project.root / ".cssegcore" / "resume")  # or finished trainings are taken from it
    stages = [f"{stage}@step{k}" for stage in ("train", "evaluate") for k in (0, 1)]
    again = ("--force", "--no-run-cache", "--single-item")
    assert ran(project.run("dvc", "repro", *again, *stages)) == set(stages)
    assert project.metrics() == before
    assert {p: p.read_bytes() for p in models} == models


def test_comments_rerun_check_alone(project: Project) -> None:
    project.repro(*MIB)
    loop = project.root / "cssegcore" / "training" / "trainer.py"
    loop.write_text(loop.read_text() + "\n# a remark\n")
    assert ran(project.run("dvc", "repro")) == {"check"}


def test_metrics_plots_and_parameters_are_declared(project: Project) -> None:
    project.repro(*MIB)
    shown = json.loads(project.run("dvc", "metrics", "show", "--json").split("WARNING")[0])
    files = next(iter(shown.values()))["data"]
    assert list(files) == ["work/report/headline.json"]
    numbers = files["work/report/headline.json"]["data"]
    assert {"all", "average"} < set(numbers)
    assert all(isinstance(value, float) for value in numbers.values())  # no texts: it fits a screen
    project.run("dvc", "plots", "show", "--out", "plots")
    page = (project.root / "plots" / "index.html").read_text()
    assert "mIoU over steps" in page
    project.compose(*MIB, "steps.step1.lr=0.5")
    assert "steps.step1.lr" in project.run("dvc", "params", "diff")


def test_experiments_compose_and_queue(project: Project) -> None:
    """`dvc exp run -S` swaps method and scenario; queued ones run in temporary copies."""
    project.repro(*MIB)
    project.run("git", "add", "-A")
    project.run("git", "commit", "-qm", "mib")
    quick = [argument for override in (*QUICK, MIB[0]) for argument in ("-S", override)]
    output = project.run("dvc", "exp", "run", *quick, "-S", "method=ft")
    assert "train@step0" not in ran(output)
    assert yaml.safe_load((project.root / "params.yaml").read_text())["method"]["name"] == "ft"
    project.run("dvc", "exp", "run", "--queue", "-n", "queued", *quick, "-S", "seed=7")
    project.run("dvc", "queue", "start")
    project.run("dvc", "queue", "logs", "queued", "-f")
    shown = project.run("dvc", "exp", "show", "--csv", "--no-pager")
    assert "queued" in shown
    assert "Success" in project.run("dvc", "queue", "status")

    told = project.run("python", "-m", "stages.compare", "--source", "dvc", "--format", "csv")
    runs = {(r["method"].split()[0], r["runs"]) for r in csv.DictReader(told.splitlines())}
    assert runs == {("mib", "2"), ("ft", "1")}  # the one that the queue ran, and seed 1


def test_make_shows_what_ran_and_composes_the_defaults(project: Project) -> None:
    """Last in this file, whose runs it shows: it changes params.yaml."""
    if not (project.root / "work/report/headline.json").exists():  # this test alone is asked for
        project.repro(*MIB)
    make = ("make", "--no-print-directory", "-o", ".venv/.ready")  # the environment is there

    def table(columns: int, *arguments: str) -> list[str]:
        shown = project.run("env", f"COLUMNS={columns}", *make, "exps", *arguments).splitlines()
        return [line for line in shown if "Experiment" in line or "workspace" in line]

    columns = {"seed", "method.name", "scenario.name", "all", "base_nobg", "added_nobg"}
    head, workspace = table(110)
    assert max(len(head), len(workspace)) <= 110
    assert set(head.split()) == {"Experiment", *columns}, "narrower, they would be cut off"
    assert len(workspace.split()) == len(head.split()), "every column has its value"
    (wide, _) = table(400, "ARGS=--keep 'forgetting|optimizer.*'")
    assert {"optimizer.batch_size", "forgetting"} <= set(wide.split())

    assert "mib" in project.run(*make, "table")
    project.run(*make, "params")
    assert yaml.safe_load((project.root / "params.yaml").read_text()) == composed()
