import dataclasses

import pytest

from cssegcore.core.class_table import ClassTable
from cssegcore.core.errors import InputError
from cssegcore.data.image_list import ImageList
from cssegcore.scenario.watching import check_choice, read_watched, write_watched

FIRST = ClassTable.of([["background", "cat"]], [[0, 8]])
SECOND = ClassTable.of([["background", "cat"], ["dog"]], [[0, 8], [12]])


def lists(val, test):
    """Two steps; `val` and `test` name the images of each."""
    steps = [("step0", 0, FIRST, [8]), ("step1", 1, SECOND, [12])]
    made = {}
    for (name, at, classes, visible), own, tested in zip(steps, val, test, strict=True):
        empty = ImageList(name, at, classes, visible, [])
        images = [[[one, f"digest of {one}"] for one in names] for names in (own, tested)]
        made[name] = {
            "val": dataclasses.replace(empty, images=images[0]),
            "test": dataclasses.replace(empty, images=images[1]),
        }
    return made


PHOTOGRAPHS = {name: f"photograph of {name}" for name in "abcxy"}


def watched(folder, step):
    found = read_watched(folder / step / "watched")
    return [(one.step, one.names, one.visible) for one in found]


def test_a_step_is_watched_on_the_lists_so_far(tmp_path):
    write_watched(tmp_path, lists([["a"], ["b", "c"]], [["x"], ["y"]]), PHOTOGRAPHS)
    assert watched(tmp_path, "step0") == [("step0", ["a"], [8])]
    assert watched(tmp_path, "step1") == [("step0", ["a"], [8]), ("step1", ["b", "c"], [12])]


def test_what_is_tested_on_by_then_is_left_out(tmp_path):
    write_watched(tmp_path, lists([["a", "b"], ["c"]], [["b"], ["a", "b"]]), PHOTOGRAPHS)
    assert watched(tmp_path, "step0") == [("step0", ["a"], [8])]  # a later test changes nothing
    assert watched(tmp_path, "step1") == [("step0", [], [8]), ("step1", ["c"], [12])]


def test_the_same_photograph_under_another_name_is_left_out(tmp_path):
    made = lists([["a"], []], [["x"], ["x"]])
    write_watched(tmp_path, made, PHOTOGRAPHS | {"a": "photograph of x"})
    assert watched(tmp_path, "step0") == [("step0", [], [8])]


def test_lists_that_are_missing_are_told(tmp_path):
    with pytest.raises(InputError, match="holds no lists: run `dvc repro split`"):
        read_watched(tmp_path)


DOMAIN = ClassTable.of([["background", "cat", "dog"], []], [[0, 8, 12], []])


@pytest.mark.parametrize(
    ("val", "shown", "fits"),
    [
        (["b"], {"b": {0, 12}}, True),
        (["b", "c"], {"b": {0, 8}, "c": {8, 12}}, True),
        (["b", "c"], {"b": {0, 8}, "c": {0}}, False),  # of earlier classes alone
        ([], {}, False),  # while step 0 has an image
        (["y"], {"y": {12}}, False),  # which is tested on
    ],
)
def test_the_best_epoch_is_told_by_what_the_step_learns(tmp_path, val, shown, fits):
    write_watched(tmp_path, lists([["a"], val], [["x"], ["y"]]), PHOTOGRAPHS)
    shown = {"a": {0, 8, 12}, **shown}
    check_choice("step0", tmp_path / "step0/watched", shown.__getitem__)
    if fits:
        check_choice("step1", tmp_path / "step1/watched", shown.__getitem__)
        return
    words = r"keep` is best, and no validation image of step1 .*`scenario.lists.step1.val`"
    with pytest.raises(InputError, match=words):
        check_choice("step1", tmp_path / "step1/watched", shown.__getitem__)


def test_the_background_is_no_class_to_choose_by(tmp_path):
    write_watched(tmp_path, lists([["a"], []], [["x"], []]), PHOTOGRAPHS)
    with pytest.raises(InputError, match="no validation image of step0"):
        check_choice("step0", tmp_path / "step0/watched", lambda _: {0, 12})


@pytest.mark.parametrize(("shown", "fits"), [({0, 8}, True), ({0}, False)])
def test_a_domain_is_chosen_by_all_classes(tmp_path, shown, fits):
    one = ImageList("step1", 1, DOMAIN, [8, 12], [["a", "digest of a"]])
    one.write(tmp_path / "step1.json")
    if fits:
        check_choice("step1", tmp_path, lambda _: shown)
        return
    with pytest.raises(InputError, match="no validation image of step1"):
        check_choice("step1", tmp_path, lambda _: shown)
