"""params.yaml that somebody edits while a stage runs."""

import json
import shutil
import threading
import time
from pathlib import Path

import pytest

from tests.helpers import tiny_dataset as scenes

STEP = "train@step0"


@pytest.fixture
def project(project, monkeypatch):
    """A project before its first training, which it begins as DVC would."""
    shutil.copy(scenes.HOME / "dvc.yaml", project.folder)
    assert project.run(*scenes.BEFORE_TRAINING).status == 0
    monkeypatch.setenv("DVC_STAGE", STEP)
    return project


def run_with_edit(project, key, value):
    """Runs the training and sets a parameter as soon as it works; returns what came of it."""

    def edit():
        while not list(project.folder.glob(".cssegcore/resume/*.lock")):
            time.sleep(0.001)
        project.set(key, value)

    editor = threading.Thread(target=edit)
    editor.start()
    outcome = project.run(STEP)
    editor.join()
    return outcome


@pytest.mark.parametrize(
    ("key", "said"),
    [("steps.step0.lr", "0.5"), ("seed", "0.5"), ("model.later", "nothing and is 0.5")],
)
def test_a_result_is_refused_that_dvc_would_store_under_other_values(project, key, said):
    refusal = run_with_edit(project, key, 0.5).refusal()
    assert f"while {STEP} ran: `{key}` was " in refusal
    assert said in refusal


def test_the_old_value_put_back_takes_the_finished_training(project):
    old = project.params["steps"]["step0"]["lr"]
    run_with_edit(project, "steps.step0.lr", 0.5).refusal()
    model = Path("work/step0/model.safetensors")
    made = model.read_bytes()
    model.unlink()  # as DVC does before it runs a stage
    project.set("steps.step0.lr", old)
    outcome = project.run(STEP)
    assert "trained before; the result is taken" in outcome.out, outcome
    assert model.read_bytes() == made


@pytest.mark.parametrize("key", ["steps.step1.lr", "method.name", "evaluation.examples"])
def test_what_the_stage_does_not_declare_may_change(project, key):
    assert run_with_edit(project, key, 0.5).status == 0


def test_tracking_is_told_what_the_stage_read(project, monkeypatch):
    monkeypatch.setenv("CSSEGCORE_TRACKING", "later")
    assert run_with_edit(project, "evaluation.examples", 7).status == 0
    (opened,) = [
        entry["params"]
        for journal in project.folder.glob(".cssegcore/tracking/*.jsonl")
        for entry in map(json.loads, journal.read_text().splitlines())
        if "params" in entry
    ]
    assert str(opened["evaluation.examples"]) == "1"


@pytest.mark.parametrize("stage", ["report", "of_no_pipeline"])
def test_every_parameter_counts_where_all_or_none_are_declared(project, monkeypatch, stage):
    monkeypatch.setenv("DVC_STAGE", f"../dvc.yaml:{stage}")  # as from a folder below
    refusal = run_with_edit(project, "steps.step1.lr", 0.5).refusal()
    assert f"while {stage} ran: `steps.step1.lr` was " in refusal


def test_by_hand_nothing_is_stored(project, monkeypatch):
    monkeypatch.delenv("DVC_STAGE")
    assert run_with_edit(project, "steps.step0.lr", 0.5).status == 0
