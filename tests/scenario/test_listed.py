"""Steps that list their images: what they get, and that growth changes nothing before it."""

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest

from cssegcore.core.errors import InputError
from cssegcore.core.types import TO_COME
from cssegcore.data.image_list import ImageList
from cssegcore.data.index import Entry
from cssegcore.scenario.lists import StepLists, check_lists, read_lists
from cssegcore.scenario.scenario import Scenario
from cssegcore.scenario.splits import write_splits
from tests.helpers.tiny_dataset import write_lines

TABLE = ("background", "cat", "dog", "sheep")
STEPS = {"step0": ["dog"], "step1": ["cat"]}
SHOWN = {
    "may/b": {0, 2},
    "may/a": {0, 2, 3},  # a sheep, which nobody learns yet
    "may/c": {0},
    "may/t": {0, 1, 2, 3},
    "june/a": {1, 2},
    "june/b": {0, 1},
    "june/t": {0, 1},
    "june/v": {0, 2},
}
LISTS = {
    "step0": StepLists("lists/may.txt", "lists/may_test.txt"),
    "step1": StepLists("data/images/june/train", "lists/june_test.txt", "lists/june_val.txt"),
}
NOVEMBER = {"november/a": {0, 4, 1}, "november/t": {4}}
FOLDERS = {"june/a": "june/train", "june/b": "june/train"}


def entries(shown, outputs):
    for name, raws in shown.items():
        pixels = tuple(int(raw in raws) for raw in range(outputs))
        yield Entry(name, ("train", "val", "test"), f"digest of {name}", 1, 1, 0, pixels)


def photograph(name):
    """Photographs lie by month; those that june's step trains on in a folder of it."""
    return Path("data/images", FOLDERS.get(name, name.split("/")[0]), name.split("/")[1] + ".jpg")


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A repository with the lists; what photographs would hold, no one asks."""
    monkeypatch.chdir(tmp_path)
    for folder in ("lists", "data/images/june/train"):
        Path(folder).mkdir(parents=True)
    write_lines(Path("lists/may.txt"), ["may/b", "may/a", "may/c"])
    write_lines(Path("lists/may_test.txt"), ["may/t"])
    write_lines(Path("lists/june_test.txt"), ["june/t"])
    write_lines(Path("lists/june_val.txt"), ["june/v"])
    return tmp_path


def split(out, shown=SHOWN, table=TABLE, steps=STEPS, lists=LISTS, left_out=None, shared=False):
    scenario = Scenario.of("listed", table, steps, lists=lists, left_out=left_out)
    of = list(entries(shown, len(table)))
    write_splits(out, scenario, of, table, shared=shared, photograph=photograph)
    kinds = ("train", "seen", "val", "test")
    return {(s, k): ImageList.read(out / s / f"{k}.json") for s in steps for k in kinds}


def test_a_step_has_what_its_lists_name(home):
    found = split(home / "split")
    assert {key: one.names for key, one in found.items()} == {
        ("step0", "train"): ["may/b", "may/a", "may/c"],
        ("step0", "seen"): ["may/b", "may/a", "may/c"],
        ("step0", "val"): [],
        ("step0", "test"): ["may/t"],
        ("step1", "train"): ["june/a", "june/b"],
        ("step1", "seen"): ["may/b", "may/a", "may/c", "june/a", "june/b"],
        ("step1", "val"): ["june/v"],
        ("step1", "test"): ["may/t", "june/t"],
    }
    # outputs: background, dog, cat; raw labels: background, cat, dog, sheep, void
    labels = {key: one.label_table()[[0, 1, 2, 3, 255]].tolist() for key, one in found.items()}
    assert labels["step0", "train"] == [0, 0, 1, 0, 255]
    assert labels["step1", "train"] == labels["step1", "val"] == [0, 2, 0, 0, 255]
    assert labels["step1", "seen"] == [0, 2, 1, 0, 255]
    # tests tell classes to come from the background, cat and sheep alike
    assert labels["step0", "test"] == [0, 2, 1, 2, 255]
    assert labels["step1", "test"] == [0, 2, 1, 3, 255]
    assert found["step0", "test"].row_names == ["background", "dog", TO_COME]
    assert found["step1", "test"].row_steps == [0, 0, 1, 2]


def test_a_step_may_read_old_classes(home):
    reading = dataclasses.replace(LISTS["step1"], annotated=["cat", "dog"])
    found = split(home / "split", lists=LISTS | {"step1": reading})
    assert found["step1", "train"].label_table()[[0, 1, 2, 3]].tolist() == [0, 2, 1, 0]


@pytest.mark.parametrize(("left_out", "sheep"), [("void", 255), ("background", 0)])
def test_classes_that_no_step_ever_learns(home, left_out, sheep):
    found = split(home / "split", left_out=left_out)
    tested = found["step0", "test"].label_table()
    assert tested[[1, 3]].tolist() == [2, sheep]
    assert TO_COME not in found["step1", "test"].row_names
    trained = dataclasses.replace(found["step0", "train"], void="background").label_table()
    assert trained[3] == 0
    assert found["step0", "train"].label_table()[3] == sheep


def test_what_arrives_later_changes_no_list_before_it(home):
    split(home / "before")
    # new photographs, in front of the old ones; a new class; and a class of old, learned at last
    write_lines(Path("lists/november.txt"), ["november/a", "may/a"])
    write_lines(Path("lists/november_test.txt"), ["november/t"])
    table = (*TABLE, "horse")
    steps = STEPS | {"step2": ["horse", "sheep"]}
    own = {"step2": StepLists("lists/november.txt", "lists/november_test.txt")}
    after = split(home / "after", NOVEMBER | SHOWN, table, steps, LISTS | own)
    for step in STEPS:
        before, later = home / "before" / step, home / "after" / step
        names = sorted(path.relative_to(before) for path in before.rglob("*.json"))
        assert Path("watched/step0.json") in names
        for name in names:
            assert (before / name).read_bytes() == (later / name).read_bytes(), name
    assert after["step2", "test"].names == ["may/t", "june/t", "november/t"]
    assert after["step2", "test"].row_names == ["background", "dog", "cat", "horse", "sheep"]


def refuses(words, **changed):
    with pytest.raises(InputError, match=words) as caught:
        split(Path("split"), **changed)
    assert "\n" not in str(caught.value)
    assert not Path("split").exists()


@pytest.mark.parametrize(
    ("name", "lines", "words"),
    [
        (
            "may",
            ["may/b", "may/x", "y"],
            r"lists.step0.train`: lists/may.txt names 'may/x' and 1 ",
        ),
        ("may", [], r"the list lists/may.txt is empty"),
        ("may", ["may/b", "may/b"], r"names 'may/b' twice"),
        ("may", ["may/c"], r"step0.train`: no image of lists/may.txt shows 'dog', which"),
        ("june_test", ["may/b"], r"1 images are trained and tested on: 'may/b'"),
        ("june_val", ["june/a"], r"1 images are trained and tested on: 'june/a'"),
    ],
)
def test_wrong_lists_are_refused(home, name, lines, words):
    write_lines(Path(f"lists/{name}.txt"), lines)
    refuses(words)


def test_shared_images_pass_where_that_is_meant(home):
    write_lines(Path("lists/june_test.txt"), ["may/b"])
    assert split(home / "split", shared=True)["step1", "test"].names == ["may/t", "may/b"]


@pytest.mark.parametrize(
    ("train", "words"),
    [
        ("lists/mai.txt", r"step0.train` is 'lists/mai.txt', and there is no such file or folder"),
        ("data/images/empty", r"is the folder 'data/images/empty', and no photograph of the data"),
        ("data/images/jun", r"there is no such file or folder"),
        (
            "elsewhere.txt",
            r"is 'elsewhere.txt', and DVC sees changes of list files in lists/ al",
        ),
    ],
)
def test_places_that_are_no_lists_are_refused(home, train, words):
    Path("data/images/empty").mkdir()
    Path("elsewhere.txt").write_text("may/b\n")
    lists = LISTS | {"step0": StepLists(train, "lists/may_test.txt")}
    refuses(words, lists=lists)


def test_a_folder_is_that_of_the_photographs_wherever_the_dataset_lies(home):
    def elsewhere(name):
        return home / "data" / "x" / ".." / "images" / f"{name}.jpg"

    Path("data/images/may").mkdir()
    lists = {"step0": StepLists("./data/images/may", "lists/june_test.txt")}
    found = read_lists(lists, ["june/t", "may/b", "mayor/a", "may/a"], elsewhere)
    assert found[0].train == ["may/a", "may/b"]


@pytest.mark.parametrize(
    ("setting", "lists", "words"),
    [
        ("overlapped", LISTS, "'overlapped', but `scenario.lists` names each step's images"),
        ("listed", {}, "must name the images of step0, step1; got those of none"),
        ("listed", {"step1": LISTS["step1"]}, "step0, step1; got those of step1"),
        ("listed", {"step0": ["cat"]}, "step0.annotated` has 'cat', which no step has learned by"),
        ("listed", {"step1": ["cat", "dgo"]}, "has 'dgo', .* Did you mean `dog`. Known: dog, cat"),
        ("listed", {"step1": ["dog"]}, "step1.annotated` lacks 'cat', which the step learns: add"),
    ],
)
def test_lists_that_fit_no_step_are_refused(setting, lists, words):
    if any(isinstance(own, list) for own in lists.values()):
        changed = {s: dataclasses.replace(LISTS[s], annotated=own) for s, own in lists.items()}
        lists = LISTS | changed
    with pytest.raises(InputError, match=words):
        check_lists(setting, lists, STEPS)
    with pytest.raises(InputError, match=words):
        Scenario.of(setting, TABLE, STEPS, lists=lists, left_out="void")


def test_one_image_tells_no_step(home):
    with pytest.raises(ValueError, match=re.escape("steps list their images")):
        Scenario.of("listed", TABLE, STEPS, lists=LISTS).trains({1}, 0)


def test_classes_to_come_are_the_last_row(home):
    found = split(home / "split")["step0", "test"]
    assert np.unique(found.label_table()).tolist() == [0, 1, 2, 255]


def test_check_reads_the_lists_before_the_index(project):
    own = {"train": "lists/a.txt", "test": "lists/b.txt"}
    project.set("scenario.lists", dict.fromkeys(project.params["steps"], own))
    assert "is 'overlapped', but `scenario.lists` names each" in project.run("check").refusal()
    project.set("scenario.setting", "listed")
    assert "step0.train` is 'lists/a.txt', and there is no" in project.run("check").refusal()
    Path("lists").mkdir()
    for name, image in (("a", "t7"), ("b", "v9")):  # t7 shows all classes
        write_lines(Path(f"lists/{name}.txt"), [image])
    assert "lists/b.txt names 'v9', which the dataset does" in project.run("check").refusal()
    write_lines(Path("lists/b.txt"), ["t7"])
    assert "'t7' is in the training part and in `val` or `test`" in project.run("check").refusal()
    project.set("evaluation.shared", "allow")
    assert project.run("check").status == 0
