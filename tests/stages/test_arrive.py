"""`arrive`: photographs and classes that come become a step, and nothing before it changes."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from omegaconf import OmegaConf
from PIL import Image
from ruamel.yaml import YAML

from stages.common.params import read_params
from tests.helpers.tiny_dataset import (
    HOME,
    MISREAD,
    TINY,
    composed,
    draw,
    run_module,
    write_lines,
)

pytestmark = pytest.mark.slow

TABLE = ["background", "red", "green", "blue"]
STEPS = {"step0": ["red", "green"], "step1": ["blue"]}
KINDS = ("train", "val", "test", "seen")
SCENARIO = """\
# @package _global_
# mine, and a comment that stays
defaults:
  - override /dataset: folder

scenario:
  name: mine/main
  setting: overlapped         # or disjoint
  classes:
    step0: [red, green]
    step1: [blue]
"""


def put(root, name, shown, shade):
    """Puts a photograph, which no other has the bytes of, and its labels into the dataset."""
    photograph, labels = draw(shown, 9)
    pixels = (photograph.astype(int) + shade).clip(0, 255).astype(np.uint8)
    for folder, array in (("images", pixels), ("labels", labels)):
        path = root / folder / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(array).save(path)


def label(root, name, shown):
    """Puts a label image of a pixel a class in the place of the one that is there."""
    labels = np.zeros((36, 36), np.uint8)
    labels[0, : len(shown)] = shown
    Image.fromarray(labels).save(root / "labels" / f"{name}.png")


def split():
    """Runs the stages that make the lists; returns every list's bytes."""
    for command in (("index", "work/index.csv"), ("split", "work/index.csv", "work/split")):
        outcome = run_module(f"stages.{command[0]}", *command[1:])
        assert outcome.status == 0, outcome
    return {
        path.relative_to("work/split").as_posix(): path.read_bytes()
        for path in Path("work/split").rglob("*.json")
    }


def names(lists, step, kind):
    return [name for name, _ in json.loads(lists[f"{step}/{kind}.json"])["images"]]


def arrive(*arguments):
    return run_module("stages.arrive", *arguments)


def write_params(**changed):
    params = composed(*TINY)
    params["dataset"] = {"name": "mine", "root": "mine", "layout": {"part": "folder"}}
    params["scenario"] |= {"name": "mine/main", "classes": STEPS, "last": "step1"} | changed
    for section in ("steps", "increments"):
        params[section].pop("step2")
    Path("params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))


@pytest.fixture
def farm(tmp_path, monkeypatch):
    """A project of two steps whose lists are made; names draw 9 and 39 as tests, 8 for `val`."""
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "mine"
    for number in range(40):
        shown = [[1], [2], [1, 2], [3], [1, 2, 3]][number % 5]
        put(root, str(number), shown, number)
    write_lines(root / "classes.txt", TABLE)
    path = Path("conf/scenario/mine/main.yaml")
    path.parent.mkdir(parents=True)
    path.write_text(SCENARIO)
    Path("lists").mkdir()
    write_params()
    return root


def grow(root, folder="june", new=4, **shown):
    """Puts twelve photographs of a month into the dataset; JUNE/8 is drawn as a test."""
    for number in range(12):
        what = shown.get(f"i{number}", [new, 1] if number in (3, 8) else [new])
        put(root, f"{folder}/{number}", what, 50 + number + 15 * new)
    write_lines(root / "classes.txt", [*TABLE, "goat", "pig"][: new + 1])


def test_earlier_lists_are_frozen_and_the_step_is_trained_by_the_schedule(farm):
    before = split()
    grow(farm)
    outcome = arrive()
    assert outcome.status == 0, outcome
    assert "step2 learns goat: 10 to train, 1 to val, 1 to test" in outcome.out
    assert "the labels of 1 test photographs show red" in outcome.out

    params = read_params()
    params.check_chain()
    assert params.scenario.classes == STEPS | {"step2": ["goat"]}
    assert (params.scenario.setting, params.scenario.last) == ("listed", "step2")
    step = params.steps["step2"]
    assert (step.previous, step.recipe, step.images) == ("step1", "method", "train")
    assert (step.epochs, step.lr) == (params.schedule.increment.epochs, 0.02)
    text = Path("conf/scenario/mine/main.yaml").read_text()
    assert "# mine, and a comment that stays\n" in text
    assert yaml.safe_load(text)["scenario"] == {
        "name": "mine/main",
        "setting": "listed",
        "classes": STEPS | {"step2": ["goat"]},
        "lists": yaml.safe_load(Path("params.yaml").read_text())["scenario"]["lists"],
    }
    assert params.scenario.lists["step1"].test is None  # all its tests are step 0's already

    after = split()
    for step in STEPS:
        for kind in ("train", "val"):
            assert after[f"{step}/{kind}.json"] == before[f"{step}/{kind}.json"]
        assert names(after, step, "test") == names(before, step, "test")
    assert {"9", "39", "june/8"} == {*names(after, "step2", "test")}
    assert {*names(after, "step2", "train")} <= {f"june/{number}" for number in range(12)}


def test_the_next_arrival_changes_no_byte_of_what_was_before(farm):
    split()
    grow(farm)
    assert arrive().status == 0
    before = split()
    grow(farm, "july", 5, i8=[5, 1], i3=[5, 4])
    outcome = arrive("--test", "july/8", "--test", "july/3", "--annotated", "pig,goat")
    assert outcome.status == 0, outcome
    after = split()
    assert {path: after[path] for path in before} == before
    assert names(after, "step3", "test") == ["39", "9", "june/8", "july/3", "july/8"]
    assert read_params().scenario.lists["step3"].annotated == ["pig", "goat"]
    assert "0 to val, 2 to test" in outcome.out


def test_lists_of_the_dataset_say_what_is_held_out(farm):
    """Names would draw june/8 as the test; copies of a test photograph may lie in the training."""
    write_lines(farm / "train.txt", [str(n) for n in range(40) if n not in (9, 39)])
    write_lines(farm / "test.txt", ["9", "39"])
    split()
    grow(farm)
    assert "and add them to its lists" in arrive().refusal()
    held = {"june/3"}
    june = [f"june/{number}" for number in range(12)]
    with (farm / "train.txt").open("a") as file:
        file.writelines(f"{name}\n" for name in june if name not in held)
    with (farm / "test.txt").open("a") as file:
        file.writelines(f"{name}\n" for name in held)
    outcome = arrive()
    assert outcome.status == 0, outcome
    assert "step2 learns goat: 11 to train, 0 to val, 1 to test" in outcome.out
    assert {"9", "39", "june/3"} == {*names(split(), "step2", "test")}


def test_a_folder_that_a_step_named_is_frozen_too(farm):
    """Photographs that come into it later belong to no earlier step."""
    grow(farm)
    write_lines(Path("lists/first.txt"), [str(number) for number in range(30)])
    write_lines(Path("lists/first_test.txt"), ["39", "34"])
    lists = {
        "step0": {"train": "lists/first.txt", "test": "lists/first_test.txt"},
        "step1": {"train": "mine/images/june", "test": None},
    }
    steps = {"step0": TABLE[1:], "step1": ["goat"]}
    write_params(setting="listed", classes=steps, lists=lists)
    text = SCENARIO.replace("[red, green]", "[red, green, blue]").replace("[blue]", "[goat]")
    Path("conf/scenario/mine/main.yaml").write_text(text)
    before = split()
    put(farm, "june/late", [4, 1], 77)
    grow(farm, "july", 5, i8=[5, 1])
    outcome = arrive("july", "--test", "july/8")
    assert outcome.status == 0, outcome
    assert read_params().scenario.lists["step0"].train == "lists/first.txt"
    assert read_params().scenario.lists["step1"].train == "lists/mine/main/step1.txt"
    after = split()
    assert {path: after[path] for path in before} == before
    assert "june/late" not in "".join(map(str, after.values()))


def test_what_the_last_run_saw_is_named(farm):
    """Photographs that no step has, since they show no class it knows, are named to be taken."""
    write_params(left_out="background")
    grow(farm, i3=[4], i8=[4])
    split()
    assert "name the new classes with --classes" in arrive().refusal()
    named = ("--classes", "goat", "--no-old-classes")
    assert "no photograph below mine is new" in arrive(*named).refusal()
    assert "'0' is in a list of an earlier step" in arrive("0", *named).refusal()
    outcome = arrive("june", *named, "--step", "summer")
    assert outcome.status == 0, outcome
    assert read_params().scenario.last == "summer"


@pytest.mark.parametrize(
    ("change", "arguments", "words"),
    [
        ({}, ("--classes", "cow"), "--classes: 'cow' is no new class: classes.txt lacks it."),
        ({}, ("--classes", "red"), "'red' is no new class: a step learns it already."),
        ({}, ("may",), "there is no new photograph or folder of such 'may'"),
        ({}, ("--test", "june/99"), "there is no new photograph or folder of such 'june/99'"),
        (
            {"i3": [4], "i8": [4]},
            (),
            "(june/8, …) have none of the old classes red, green, blue. T",
        ),
        ({}, ("--step", "../../escaped"), "--step '../../escaped': lists and folders have steps'"),
        (
            {},
            ("--step", "a b"),
            "--step 'a b': lists and folders have steps' names, so use letters",
        ),
        (
            {},
            ("--step", "step1"),
            "'step1': params.yaml has such a step already: give another name",
        ),
        ({}, ("--annotated", "red"), "lacks 'goat', which the step learns: add it."),
    ],
)
def test_senseless_arrivals_are_refused_and_write_nothing(farm, change, arguments, words):
    split()
    grow(farm, **change)
    before = {path: path.read_bytes() for path in Path().rglob("*.*ml")}
    assert words in arrive(*arguments).refusal()
    assert {path: path.read_bytes() for path in Path().rglob("*.*ml")} == before
    assert not [*Path("lists").rglob("*.txt")]


@pytest.mark.parametrize("step", ["step2", "no", "2024"])
def test_names_are_read_as_they_are_whichever_yaml_is_read(farm, step):
    split()
    grow(farm)
    label(farm, "june/3", range(4, 4 + len(MISREAD)))
    write_lines(farm / "classes.txt", [*TABLE, *MISREAD])
    outcome = arrive("--step", step, "--test", "june/8")
    assert outcome.status == 0, outcome
    read_params().check_chain()
    write_lines(farm / "classes.txt", [*TABLE, *MISREAD, "off off"])
    put(farm, "may/1", [1], 5)
    label(farm, "may/1", [4 + len(MISREAD)])
    split()
    outcome = arrive("--step", "off", "--no-old-classes")
    assert outcome.status == 0, outcome

    scenario = Path("conf/scenario/mine/main.yaml")
    shutil.copytree(HOME / "conf", "conf", dirs_exist_ok=True)
    command = [sys.executable, "-m", "stages.compose", "made.yaml", "scenario=mine/main"]
    environment = os.environ | {"PYTHONPATH": str(HOME), "FOLDER_ROOT": str(farm)}
    subprocess.run(command, env=environment, check=True)
    for path in (scenario, Path("params.yaml"), Path("made.yaml")):
        readings = [yaml.safe_load(path.read_text()), OmegaConf.to_container(OmegaConf.load(path))]
        if path.name != "made.yaml":  # which OmegaConf writes, as under `dvc exp run`
            readings.append(YAML(typ="safe", pure=True).load(path))
        for read in readings:
            assert read["scenario"]["classes"][step] == MISREAD
            assert list(read["scenario"]["lists"])[2] == step
    for path in (Path("params.yaml"), Path("made.yaml")):
        read_params(path).check_chain()


def test_no_class_is_a_place_for_a_value(farm):
    split()
    grow(farm)
    write_lines(farm / "classes.txt", [*TABLE, "${oc.env:HOME}"])
    said = arrive().refusal()
    assert "mine/classes.txt names a class '${oc.env:HOME}': Hydra and DVC put a value" in said
    assert Path("conf/scenario/mine/main.yaml").read_text() == SCENARIO


def copy(root, old, new):
    for folder in ("images", "labels"):
        shutil.copy(root / folder / f"{old}.png", root / folder / f"{new}.png")


@pytest.mark.parametrize("dry", [(), ("--dry-run",)])
@pytest.mark.parametrize(
    ("old", "new", "trained", "tested"),
    [
        ("0", "june/9", "0", "june/9"),  # an old training image is to be held out
        ("9", "june/4", "june/4", "9"),  # an old test image is to be trained on
        ("june/1", "june/9", "june/1", "june/9"),
    ],
)
def test_no_photograph_is_trained_on_and_held_out(farm, old, new, trained, tested, dry):
    split()
    grow(farm)
    copy(farm, old, new)
    label(farm, new, [4, 1])  # annotated in another way
    held_out = ("--test", "june/9", "--test", "june/8")
    said = arrive(*held_out, *dry).refusal()
    assert f"{trained!r} is in the training part and in `val` or `test`" in said
    assert f"under the name {tested!r}" in said
    assert Path("conf/scenario/mine/main.yaml").read_text() == SCENARIO
    assert not [*Path("lists").rglob("*.txt")]

    params = yaml.safe_load(Path("params.yaml").read_text())
    params["evaluation"]["shared"] = "allow"
    Path("params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    assert arrive(*held_out, *dry).status == 0


def test_a_dry_run_writes_nothing(farm):
    split()
    grow(farm)
    outcome = arrive("--dry-run")
    assert outcome.out.endswith("nothing is written.\n")
    assert Path("conf/scenario/mine/main.yaml").read_text() == SCENARIO
    assert not [*Path("lists").rglob("*.txt")]


def test_a_project_that_is_not_ready_is_refused(farm):
    assert "work/index.csv is not there: run `dvc repro`" in arrive().refusal()
    split()
    assert "all classes of mine/classes.txt are learned: append" in arrive().refusal()
    grow(farm)
    write_lines(farm / "classes.txt", ["background", "goat", "red", "green", "blue"])
    assert "append new classes to its end" in arrive().refusal()
    grow(farm)
    path = Path("conf/scenario/mine/main.yaml")
    path.write_text(SCENARIO.replace("[blue]", "[green]"))
    assert "have different classes for step1" in arrive().refusal()
    path.unlink()
    assert "a project grows in a scenario of its own" in arrive().refusal()
    path.write_text(SCENARIO)
    Path("lists/mine/main").mkdir(parents=True)
    write_lines(Path("lists/mine/main/step2.txt"), ["mine"])
    assert "step2.txt is there with other names" in arrive().refusal()
    assert path.read_text() == SCENARIO


def test_what_would_train_again_is_said_first(farm):
    split()
    grow(farm)
    params = yaml.safe_load(Path("params.yaml").read_text())
    params["method"]["losses"]["attraction"] = {"part": "attraction", "setting": "overlapped"}
    Path("params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    said = arrive().refusal()
    assert "`method.losses.attraction.setting` makes earlier steps train again" in said
    assert "once (as overlapped, unless you set that key): add --retrain" in said
    assert arrive("--retrain").status == 0
    params = yaml.safe_load(Path("params.yaml").read_text())
    assert params["method"]["losses"]["attraction"]["setting"] == "listed"


def test_a_setting_of_a_recipe_s_own_stays(farm):
    split()
    grow(farm)
    assert arrive().status == 0
    params = yaml.safe_load(Path("params.yaml").read_text())
    params["method"]["losses"]["attraction"] = {"part": "attraction", "setting": "disjoint"}
    Path("params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    split()
    grow(farm, "july", 5)
    assert arrive("--no-old-classes").status == 0
    params = yaml.safe_load(Path("params.yaml").read_text())
    assert params["method"]["losses"]["attraction"]["setting"] == "disjoint"


def leave_blue_void(root, held_out):
    """Makes lists of a project that leaves blue out as void; its one `val` image shows that."""
    write_params(classes={"step0": ["red"], "step1": ["green"]}, left_out="void")
    text = SCENARIO.replace("[red, green]", "[red]").replace("[blue]", "[green]")
    text = text.replace("  classes:", "  left_out: void\n  classes:")
    Path("conf/scenario/mine/main.yaml").write_text(text)
    put(root, "8", held_out, 8)
    return split()


def trained_on(lists):
    """The lists that trainings of the first two steps depend on; `seen` is for `joint` alone."""
    return {
        path: text
        for path, text in lists.items()
        if path[:5] in ("step0", "step1") and not path.endswith(("test.json", "seen.json"))
    }


def test_void_classes_that_a_list_no_longer_names_are_said_first(farm):
    """The image of `val` shows none: all were ignored in it by name, and none is where listed."""
    before = leave_blue_void(farm, [1, 2])
    grow(farm)
    said = arrive("--classes", "goat").refusal()
    assert "`scenario.left_out` makes earlier steps train again for it, once: add --retrain" in said
    assert arrive("--classes", "goat", "--retrain").status == 0
    after = split()
    assert {path for path, text in trained_on(before).items() if after[path] != text} == {
        "step0/val.json",
        "step0/watched/step0.json",
        "step1/val.json",
        "step1/watched/step0.json",
        "step1/watched/step1.json",
    }


def test_a_class_that_was_void_and_is_learned_is_said_first(farm):
    before = leave_blue_void(farm, [1, 2, 3])
    grow(farm)
    outcome = arrive("--classes", "goat")  # all lists show blue: the setting changes no byte
    assert outcome.status == 0, outcome
    after = split()
    assert trained_on(before).items() <= after.items()

    for number in range(12):
        put(farm, f"july/{number}", [3, 1], 150 + number)
    said = arrive("--classes", "blue").refusal()
    assert said.startswith("error: blue was void in step0 (`scenario.left_out`) and is background")
    assert "add --retrain if they may." in said
    outcome = arrive("--classes", "blue", "--retrain")
    assert outcome.status == 0, outcome
    grown = split()
    assert json.loads(after["step0/train.json"])["ignored"] == [3]
    assert "ignored" not in json.loads(grown["step0/train.json"])
