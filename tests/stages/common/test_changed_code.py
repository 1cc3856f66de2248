"""Code and files that change between `check` and the stage that reads them."""

import json

import pytest

from tests.helpers import tiny_dataset as scenes

MODULE = "cssegcore.core.registry"
"""Every stage that builds a part imports it."""


@pytest.mark.parametrize(
    ("stage", "table"),
    [
        ("train@step0", "method.base"),
        ("train@step1", "method"),
        ("evaluate@step0", "evaluate"),
        ("pseudo_label@step1", "pseudo_label"),
        ("memory@step1", "memory"),
        ("synthesize@step1", "synthesize"),
    ],
)
def test_a_stage_refuses_code_that_check_did_not_see(project, stage, table):
    project.run("check")
    path = project.folder / f"work/code/{table}.json"
    noted = json.loads(path.read_bytes())
    path.write_text(json.dumps(noted | {MODULE: "of an older program"}))
    refusal = project.run(stage).refusal()
    assert f"`{MODULE}` is not what `check` saw when it wrote work/code/{table}.json" in refusal
    path.write_text("{")
    assert f"work/code/{table}.json is damaged" in project.run(stage).refusal()


@pytest.mark.parametrize("stage", ["synthesize@step1", "memory@step1"])
def test_a_model_that_was_replaced_under_its_path_is_refused(project, stage):
    student = project.folder / "student.safetensors"
    student.write_bytes(b"one")
    project.set("method.replay", {"part": "deepinversion", "student": str(student)})
    project.set("augmentation.size", 64)
    assert project.run(*scenes.BEFORE_TRAINING).status == 0
    (project.folder / "work/step0/model.safetensors").write_bytes(b"none")
    student.write_bytes(b"other")
    refusal = project.run(stage).refusal()
    assert "`method.replay`, or a file that it names, is not what `check` saw" in refusal
    assert "run `dvc repro -f check`, then go on" in refusal
