"""Trainings that are watched, stage by stage: on images that nobody trains or tests on."""

import csv
import json
import shutil

import pytest

from tests.helpers import tiny_dataset as scenes

pytestmark = pytest.mark.slow


@pytest.fixture
def apart(project):
    """A project whose dataset has validation images of its own: one a class, and one of all."""
    lists = project.root / "ImageSets" / "Segmentation"
    names = (lists / "train.txt").read_text().split()
    own = [names[0], names[2], names[-1]]
    scenes.write_lines(lists / "own.txt", own)
    scenes.write_lines(lists / "train.txt", [name for name in names if name not in own])
    project.set("dataset.layout", {"part": "voc", "val": "own"})
    project.set("schedule.base.epochs", 3)
    project.set("steps.step0.epochs", 3)
    return project


def outs(project):
    step = project.folder / "work" / "step0"
    return {name: (step / name).read_bytes() for name in ("model.safetensors", "metrics.json")}


def curve(project):
    with (project.folder / "work" / "step0" / "epochs.csv").open() as lines:
        return list(csv.DictReader(lines))


STEP = ("train@step0", "evaluate@step0")


def test_a_training_is_watched_and_its_result_is_the_same(apart):
    outcome = apart.run(*scenes.BEFORE_TRAINING, "train@step0")
    assert outcome.status == 0, outcome.err
    assert "step0 epoch 3/3: loss" in outcome.out
    assert outcome.out.count("val mIoU") == 3
    seen = curve(apart)
    assert all(0 <= float(row["val_miou"]) <= 100 for row in seen)
    assert apart.run("evaluate@step0").status == 0
    kept = outs(apart)

    apart.set("validation.times", 0)
    assert apart.run(*STEP).status == 0
    assert outs(apart) == kept
    alone = curve(apart)
    assert alone == [{k: v for k, v in row.items() if not k.startswith("val_")} for row in seen]

    apart.set("validation.times", 1)  # a cell is empty where nothing was measured
    assert apart.run("train@step0").status == 0
    assert [row["val_miou"] for row in curve(apart)] == ["", "", seen[-1]["val_miou"]]


def test_test_images_are_not_watched(project):
    """As in Pascal VOC, whose validation images are tested on."""
    outcome = project.run(*scenes.BEFORE_TRAINING, "train@step0")
    assert outcome.status == 0
    assert "val mIoU" not in outcome.out
    assert list(curve(project)[0])[:3] == ["epoch", "lr", "loss"]
    assert not [column for column in curve(project)[0] if column.startswith("val_")]


def test_the_best_epoch_is_named(apart):
    apart.set("validation.keep", "best")
    assert apart.run(*scenes.BEFORE_TRAINING, *STEP).status == 0
    told = json.loads((apart.folder / "work/step0/metrics.json").read_text())["protocol"]
    assert "best epoch on validation images" in told


def test_there_must_be_something_to_choose_by(project):
    project.set("validation.keep", "best")
    said = project.run("check").refusal()
    assert "`validation.keep` is best, and there is no image of" in said
    project.set("validation", {"times": 0, "keep": "best"})
    assert "`keep` is best, so `times` must be >= 1, got 0" in project.run("check").refusal()


def test_a_step_without_images_to_choose_by_is_refused(apart):
    assert apart.run(*scenes.BEFORE_TRAINING).status == 0
    shutil.rmtree(apart.folder / "work/split/step0/watched")
    refused = apart.run("train@step0").refusal()
    assert "work/split/step0/watched holds no lists: run `dvc repro split`." in refused


@pytest.mark.parametrize("left", ["no image", "none of the step's classes"])
def test_a_step_is_not_chosen_by_the_classes_of_others(apart, left):
    """Refused before anything trains; and by a training whose lists are older than the choice."""
    own = apart.root / "ImageSets/Segmentation/own.txt"
    first, *_ = own.read_text().split()  # shows red, which step 0 learns
    scenes.write_lines(own, [first])
    if left == "none of the step's classes":
        apart.set("scenario.setting", "listed")
        (apart.folder / "lists").mkdir()
        for part, source in (("train", "train"), ("val", "own"), ("test", "val")):
            shutil.copy(own.with_name(f"{source}.txt"), apart.folder / f"lists/{part}.txt")
        named = {part: f"lists/{part}.txt" for part in ("train", "val", "test")}
        apart.set("scenario.lists", dict.fromkeys(apart.params["steps"], named))
    assert apart.run(*scenes.BEFORE_TRAINING, "train@step0").status == 0
    apart.set("validation.keep", "best")
    said = "`validation.keep` is best, and no validation image of step1 that is not tested on"
    assert said in apart.run("split").refusal()
    assert apart.run("train@step0").status == 0
    before = [f"{stage}@step1" for stage in scenes.BEFORE_STEP]
    assert said in apart.run(*before, "train@step1").refusal()


def test_weights_that_are_mixed_afterwards_are_not_chosen_among(apart):
    apart.set("method.after", {"part": "weight_fusion"})
    assert apart.run("check").status == 0
    apart.set("validation.keep", "best")
    said = apart.run("check").refusal()
    assert "before `method.after: weight_fusion` mixes their weights" in said
    assert "Set `validation.keep` to last, or `method.after` to none." in said


def test_dead_classes_are_told_at_once(project):
    outcome = project.run(*scenes.BEFORE_TRAINING, *STEP)
    numbers = json.loads(
        (project.folder / "work/step0/evaluation/step0/confusion.json").read_text()
    )
    dead = [name for c, name in enumerate(numbers["classes"][:3]) if not numbers["matrix"][c][c]]
    assert dead  # after one epoch
    lines = [
        line for line in outcome.err.splitlines() if line.startswith("warning: step0: no pixel")
    ]
    assert [line.split("'")[1] for line in lines] == dead
