"""Weights that are replaced under their path."""

import json

import pytest
import torch

from cssegcore.models.backbones import backbone_kind
from stages.common.noted_weights import check_noted
from tests.helpers import tiny_dataset as scenes


@pytest.fixture
def project(project):
    project.set("model.backbone.weights", str(project.folder / "own.pth"))
    return project


def make(project, seed):
    torch.manual_seed(seed)
    recipe = project.params["model"]["backbone"] | {"weights": "none"}
    torch.save(backbone_kind(recipe).build(8).state_dict(), project.folder / "own.pth")


def tables(project):
    project.run("check")
    code = project.folder / "work/code"
    return [json.loads((code / f"{name}.json").read_bytes()) for name in ("method.base", "method")]


def test_they_are_other_code(project):
    make(project, 1)
    (base, increments), again = tables(project), tables(project)
    assert again == [base, increments]
    make(project, 2)
    (other, same) = tables(project)
    assert {key for key in base if base[key] != other[key]} == {"model.backbone.weights"}
    assert same == increments


def test_a_training_refuses_others_than_were_checked(project):
    make(project, 1)
    assert project.run(*scenes.BEFORE_TRAINING).status == 0
    make(project, 2)
    refusal = project.run("train@step0").refusal()
    assert "own.pth is " in refusal
    assert "run `dvc repro -f check`, then go on" in refusal
    assert not (project.folder / "work/step0/model.safetensors").exists()
    assert project.run("check", "train@step0").status == 0


def test_a_training_that_starts_from_a_model_needs_no_file(project):
    make(project, 1)
    tables(project)
    (project.folder / "own.pth").unlink()
    check_noted(project.folder / "work/code/method.json", project.params["model"]["backbone"])
