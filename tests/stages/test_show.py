"""`show`: classes, steps and shared images in words and tables, and a picture of each step."""

import csv
from pathlib import Path

import pytest
from PIL import Image

from tests.helpers.tiny_dataset import Project, make_scenes, run_module

pytestmark = pytest.mark.slow


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return Project(tmp_path, make_scenes(tmp_path / "scenes"))


def rows(name):
    with Path("show", f"{name}.csv").open() as lines:
        return list(csv.DictReader(lines))


def test_it_tells_what_each_step_will_contain(project):
    outcome = run_module("stages.show")
    assert outcome.status == 0, outcome
    assert "13 images, 13 of them with void pixels" in outcome.out
    assert "step0: 5 train, 3 val, 3 test" in outcome.out
    classes = {row["name"]: row for row in rows("classes")}
    assert (classes["blue"]["images"], classes["blue"]["step"]) == ("6", "step1")
    steps = {(row["step"], row["name"]): row for row in rows("steps")}
    assert steps["step1", "blue"]["train"] == "4"
    assert steps["step1", "red"]["is_read"] == "False"
    assert steps["step1", "yellow"]["role"] == "later"
    shared = [(row["first"], row["second"]) for row in rows("shared")]
    assert ("step0/train", "step1/train") in shared
    for step in ("step0", "step1", "step2"):
        with Image.open(f"show/batch_{step}.png") as picture:
            assert picture.width > 2 * 160  # two images are a batch


def test_it_shows_what_training_would_refuse(project):
    for folder, suffix in (("JPEGImages", "jpg"), ("SegmentationClass", "png")):
        content = (project.root / folder / f"t0.{suffix}").read_bytes()
        (project.root / folder / f"v0.{suffix}").write_bytes(content)
    outcome = run_module("stages.show", "--no-pictures")
    assert "warning: trained and tested on: 1 images in step0/train, step0/test" in outcome.out
    assert not [*Path("show").glob("*.png")]
