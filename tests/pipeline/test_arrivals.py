"""Real DVC: photographs and classes that arrive later run nothing of the steps before them.

The test prints what ran (`pytest -s`).
"""

import math
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from tests.helpers.dvc_project import Project
from tests.helpers.tiny_dataset import BEFORE_STEP, BEFORE_TRAINING, draw, write_lines

pytestmark = pytest.mark.dvc

STEPS = {"step0": ["red", "green"], "step1": ["blue"]}
TABLE = ["background", "red", "green", "blue"]
SQUARES = 9
"""Places for classes in a scene."""


def arrive(root: Path, month: str, classes: list[int]) -> None:
    """Puts photographs of a month into the dataset: four to train on, two to test on."""
    for number in range(6):
        kind = "train" if number < 4 else "test"
        photograph, labels = draw(classes, SQUARES)
        shades = photograph.astype(int) + number + 10 * math.prod(map(ord, month[:2])) % 7
        for folder, pixels in (("images", shades.clip(0, 255)), ("labels", labels)):
            path = root / folder / month / kind / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.astype(np.uint8)).save(path)


def scenario(project: Project, steps: dict[str, list[str]]) -> None:
    """Writes the scenario: the first step by list files, all others by folders."""
    lists = {"step0": {"train": "lists/first.txt", "test": "lists/first_test.txt"}}
    for step in list(steps)[1:]:
        place = f"mine/images/{step}"
        lists[step] = {"train": f"{place}/train", "test": f"{place}/test"}
    made = {"name": "mine/arrivals", "setting": "listed", "classes": steps, "lists": lists}
    text = yaml.safe_dump({"defaults": [{"override /dataset": "folder"}], "scenario": made})
    path = project.root / "conf" / "scenario" / "mine" / "arrivals.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"# @package _global_\n{text}")


def test_a_step_that_arrives_runs_alone(tmp_path: Path, commands: Path) -> None:
    project = Project(tmp_path, commands)
    root = project.root / "mine"
    for number, step in enumerate(STEPS):
        arrive(root, step, [1, 2] if number == 0 else [number, number + 2])
    write_lines(root / "classes.txt", TABLE)
    names = [f"step0/{kind}/{number}" for kind in ("train",) for number in range(4)]
    write_lines(project.root / "lists" / "first.txt", names)
    tests = [f"step0/test/{number}" for number in (4, 5)]
    write_lines(project.root / "lists" / "first_test.txt", tests)
    scenario(project, STEPS)

    # with saliency maps and pseudo-labels; two images are a batch
    chosen = ("scenario=mine/arrivals", "method=ssul", "dataset.root=mine")
    chosen = (*chosen, "optimizer.batch_size=2", "augmentation.size=16")
    first = project.repro(*chosen)
    trained = {f"{stage}@{step}" for stage in ("train", "evaluate") for step in STEPS}
    assert {*BEFORE_TRAINING, *trained, "report"} <= first
    before = project.metrics()

    arrive(root, "step2", [4, 1])
    write_lines(root / "classes.txt", [*TABLE, "violet"])
    scenario(project, STEPS | {"step2": ["violet"]})
    second = project.repro(*chosen)
    print("a third step arrived:", ", ".join(sorted(second)))  # noqa: T201
    own = {f"{stage}@step2" for stage in (*BEFORE_STEP, "train", "evaluate")}
    assert second == {*BEFORE_TRAINING, "report"} | own
    after = project.metrics()
    steps = [f"work/{step}/metrics.json" for step in STEPS]
    assert [after[path] for path in steps] == [before[path] for path in steps]
    assert (project.root / "work/report/classes.csv").read_text().count("violet") == 1

    # a list that is edited is seen
    write_lines(project.root / "lists" / "first_test.txt", tests[:1])
    assert project.repro(*chosen, targets=["evaluate@step0"]) == {"split", "evaluate@step0"}
