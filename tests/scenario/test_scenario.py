import dataclasses
import functools
import itertools
import json
import re

import numpy as np
import pytest

from cssegcore.core.class_table import ClassTable
from cssegcore.core.errors import InputError, InputWarning
from cssegcore.data.image_list import ImageList
from cssegcore.data.index import Entry
from cssegcore.scenario.partition import PartitionRule
from cssegcore.scenario.scenario import Scenario
from cssegcore.scenario.splits import write_splits
from tests.scenario.test_partition import slow_partition

TABLE = ("background", "a", "b", "c", "d", "e", "f", "g", "h")
FOUR_TWO = {"step0": ["a", "b", "c", "d"], "step1": ["e", "f"], "step2": ["g", "h"]}
SHUFFLED = {"step0": ["h", "c"], "step1": ["a", "g", "d"], "step2": ["b"], "step3": ["f", "e"]}
SCENARIOS = {"4-2": FOUR_TWO, "shuffled": SHUFFLED}
SETTINGS = ("overlapped", "disjoint", "sequential", "partitioned")
NUMBER = 250


def label_maps():
    """Random label maps with one to five classes, void, and some with background alone."""
    rng = np.random.default_rng(3)
    for _ in range(NUMBER):
        shown = rng.choice(np.arange(1, 9), rng.integers(0, 6), replace=False)
        yield rng.choice(np.append(shown, [0, 255]), (9, 9)).astype(np.uint8)


LABELS = list(label_maps())


def entries():
    for place, labels in enumerate(LABELS):
        counts = np.bincount(labels.ravel(), minlength=256)
        part = ("train",) if place < 150 else ("val", "test")
        pixels = tuple(counts[:9].tolist())
        yield Entry(f"image {place}", part, f"digest {place}", 9, 9, int(counts[255]), pixels)


def lists(out, setting, steps):
    write_splits(out, Scenario.of(setting, TABLE, steps), list(entries()), TABLE)
    return {
        (step, kind): ImageList.read(out / step / f"{kind}.json")
        for step, kind in itertools.product(steps, ("train", "seen", "val", "test"))
    }


def reference(setting, steps, step, kind):
    """The images of a list by the words of the papers, one pixel at a time."""
    order = list(steps)
    now = order.index(step)
    number = {name: TABLE.index(name) for name in TABLE}
    new = {number[c] for c in steps[step]}
    seen = {number[c] for s in order[: now + 1] for c in steps[s]}

    def pixels(place):
        return [int(value) for value in LABELS[place].ravel()]

    def trains(place, at):
        if setting == "partitioned":
            return partitioned(steps)[place] == at
        wanted = {number[c] for c in steps[order[at]]}
        later = {number[c] for s in order[at + 1 :] for c in steps[s]}
        if not any(value in wanted for value in pixels(place)):
            return False
        return setting == "overlapped" or all(value not in later for value in pixels(place))

    def belongs(place):
        if kind == "train":
            return trains(place, now)
        if kind == "seen":
            return any(trains(place, at) for at in range(now + 1))
        return any(value in (new if kind == "val" else seen) for value in pixels(place))

    part = range(150) if kind in ("train", "seen") else range(150, NUMBER)
    return [f"image {place}" for place in part if belongs(place)]


@functools.cache
def _partitioned(*steps):
    images = [{int(value) for value in labels.ravel()} for labels in LABELS[:150]]
    return slow_partition(images, [[TABLE.index(c) for c in classes] for classes in steps])


def partitioned(steps):
    """The step that each training image belongs to."""
    return _partitioned(*map(tuple, steps.values()))


def expected_labels(setting, steps, step, kind, labels):
    """What a list's labels mean, one pixel at a time: outputs in learning order."""
    order = list(steps)
    learned = ["background", *(c for s in order for c in steps[s])]
    if kind in ("train", "val") and setting != "sequential":
        visible = set(steps[step])
    elif kind != "test":
        visible = {c for s in order[: order.index(step) + 1] for c in steps[s]}
    else:
        visible = set(TABLE[1:])
    means = np.empty_like(labels)
    for at in np.ndindex(labels.shape):
        if labels[at] == 255:
            means[at] = 255
        else:
            name = TABLE[labels[at]]
            means[at] = learned.index(name) if name in visible else 0
    return means


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("steps", SCENARIOS.values(), ids=SCENARIOS)
def test_lists_and_labels_are_those_of_the_words(tmp_path, setting, steps):
    found = lists(tmp_path, setting, steps)
    for (step, kind), image_list in found.items():
        assert image_list.names == reference(setting, steps, step, kind), (step, kind)
        assert 0 < len(image_list.names) < NUMBER
        table = image_list.label_table()
        for labels in LABELS[:20]:
            expected = expected_labels(setting, steps, step, kind, labels)
            assert np.array_equal(table[labels], expected), (step, kind)


@pytest.mark.parametrize("steps", SCENARIOS.values(), ids=SCENARIOS)
@pytest.mark.parametrize("setting", ["disjoint", "sequential", "partitioned"])
def test_lists_share_no_image_and_hold_every_image_that_shows_a_class(tmp_path, setting, steps):
    found = lists(tmp_path, setting, steps)
    trained = [name for step in steps for name in found[step, "train"].names]
    shown = [f"image {i}" for i in range(150) if set(np.unique(LABELS[i])) - {0, 255}]
    assert len(trained) == len(set(trained))
    assert sorted(trained) == sorted(shown)


@pytest.mark.parametrize("steps", SCENARIOS.values(), ids=SCENARIOS)
def test_the_settings_agree_on_the_last_step_and_on_every_test(tmp_path, steps):
    overlapped = lists(tmp_path / "o", "overlapped", steps)
    disjoint = lists(tmp_path / "d", "disjoint", steps)
    last = list(steps)[-1]
    for key in (last, "train"), (last, "seen"), *((s, k) for s in steps for k in ("val", "test")):
        assert overlapped[key] == disjoint[key]
    for step in steps:
        assert set(disjoint[step, "train"].names) <= set(overlapped[step, "train"].names)
    assert overlapped["step0", "train"] != disjoint["step0", "train"]


@pytest.mark.parametrize("steps", SCENARIOS.values(), ids=SCENARIOS)
def test_sequential_lists_are_the_disjoint_ones_with_old_classes_annotated(tmp_path, steps):
    sequential = lists(tmp_path / "s", "sequential", steps)
    disjoint = lists(tmp_path / "d", "disjoint", steps)
    for (step, kind), image_list in sequential.items():
        assert image_list.images == disjoint[step, kind].images
        same = kind in ("seen", "test") or step == "step0"
        assert (image_list.visible == disjoint[step, kind].visible) == same
        assert image_list.visible == disjoint[step, "test" if kind == "test" else "seen"].visible


@pytest.mark.parametrize("steps", SCENARIOS.values(), ids=SCENARIOS)
def test_a_partition_is_neither_disjoint_nor_overlapped(tmp_path, steps):
    found = lists(tmp_path / "p", "partitioned", steps)
    disjoint = lists(tmp_path / "d", "disjoint", steps)
    names = set(found["step0", "train"].names)
    assert names - set(disjoint["step0", "train"].names)  # some show classes to come
    so_far = set()
    for step in steps:
        so_far |= set(found[step, "train"].names)
        assert set(found[step, "seen"].names) == so_far


def test_outputs_stand_in_learning_order(tmp_path):
    found = lists(tmp_path, "overlapped", SHUFFLED)
    assert found["step1", "train"].classes == ClassTable.of(
        [["background", "h", "c"], ["a", "g", "d"]], [[0, 8, 3], [1, 7, 4]]
    )
    assert found["step1", "train"].visible == [1, 4, 7]
    assert found["step1", "seen"].visible == [1, 3, 4, 7, 8]
    assert found["step0", "test"].classes.sizes == [3, 3, 1, 2]


def test_a_list_reads_back_one_image_a_line(tmp_path):
    images = [["ä, b", "0123"], ["train/1", "4567"]]
    classes = ClassTable.of([["background", "a"], ["ü"]], [[0, 1], [2]])
    written = ImageList("step1", 1, classes, [2], images)
    written.write(tmp_path / "list.json")
    assert ImageList.read(tmp_path / "list.json") == written
    text = (tmp_path / "list.json").read_text(encoding="utf-8")
    assert re.sub(r' "digest": "[0-9a-f]+",\n', "", text) == (
        '{\n "step": "step1",\n "index": 1,\n "classes": [["background", "a"], ["ü"]],\n'
        ' "raw": [[0, 1], [2]],\n "visible": [2],\n "images": [\n'
        '  ["ä, b", "0123"],\n  ["train/1", "4567"]\n ]\n}\n'
    )


def test_a_list_that_is_missing_or_damaged_says_what_to_run(tmp_path):
    path = tmp_path / "list.json"
    with pytest.raises(InputError, match=r"list.json does not exist: run `dvc repro split`"):
        ImageList.read(path)
    path.write_text('{"step": "step0", ')
    with pytest.raises(InputError, match=r"list.json is not JSON .*: run `dvc repro -f split`"):
        ImageList.read(path)
    path.write_text(json.dumps({"stepp": "step0"}))
    with pytest.raises(InputError, match=r"list.json.stepp` is not a key"):
        ImageList.read(path)
    named = {"step": "step0", "index": 0, "classes": [["background", "a"]], "raw": [[0]]}
    path.write_text(json.dumps(named | {"visible": [1], "images": []}))
    with pytest.raises(InputError, match=r"needs a name and a raw label, .* got \[2\] names and"):
        ImageList.read(path)
    path.write_text("[]")
    with pytest.raises(InputError, match=r"list.json` must be a mapping"):
        ImageList.read(path)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"step1": ["e", "bicycle"]}, r"\.step1`.* no class 'bicycle'\. Known: a, b, c, d, e, f"),
        ({"step1": ["e", "background"]}, r"\.step1` lists 'background', .* which every step has"),
        ({"step1": ["e", "f", "a"]}, r"\.step1`: 'a' is learned in step0 already"),
        ({"step1": ["e", "f", "f"]}, r"\.step1`: 'f' is learned in step1 already"),
        ({"step1": []}, r"\.step1` is empty"),
        ({"step1": ["e"]}, r"no step learns f;"),
    ],
)
def test_class_lists_are_held_against_the_dataset_s(changed, words):
    with pytest.raises(InputError, match=words):
        Scenario.of("overlapped", TABLE, FOUR_TWO | changed)


def test_a_table_without_a_background_is_told_of():
    said = r"\.step0` lists 'a', the first name of the dataset's class table.* put a name for that"
    with pytest.raises(InputError, match=said):
        Scenario.of("overlapped", tuple("abcd"), {"step0": ["a", "b"], "step1": ["c", "d"]})


PILOT = {"step0": ["h", "c"], "step1": ["a"]}


@pytest.mark.parametrize("meaning", ["background", "void"])
@pytest.mark.parametrize("setting", SETTINGS)
def test_classes_that_no_step_learns(tmp_path, setting, meaning):
    scenario = Scenario.of(setting, TABLE, PILOT, left_out=meaning)
    write_splits(tmp_path, scenario, list(entries()), TABLE)
    left = [TABLE.index(name) for name in "bdefg"]
    for step, kind in itertools.product(PILOT, ("train", "seen", "val", "test")):
        found = ImageList.read(tmp_path / step / f"{kind}.json")
        assert found.names == reference(setting, PILOT, step, kind)
        assert set(found.label_table()[left]) == {255 if meaning == "void" else 0}
        trained = dataclasses.replace(found, void="background").label_table()
        assert set(trained[[*left, 255]]) == {0}
        old_are_shown = setting == "sequential" or step == "step0" or kind in ("seen", "test")
        assert found.label_table()[8] == old_are_shown
        assert set(found.classes.names) <= {"background", "h", "c", "a"}
        assert ("ignored" in (tmp_path / step / f"{kind}.json").read_text()) == (meaning == "void")


def test_classes_that_no_step_learns_must_have_a_meaning():
    with pytest.raises(InputError, match=r"learns b, d, e, f, g; .*`scenario.left_out` to backgr"):
        Scenario.of("overlapped", TABLE, PILOT)


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_meaning_of_classes_that_all_are_learned_is_refused(setting):
    with pytest.raises(InputError) as refused:
        Scenario.of(setting, TABLE, FOUR_TWO, left_out="void")
    assert str(refused.value) == (
        "`scenario.left_out` is 'void', but every class of the dataset is learned: set it to null,"
        " or take those that are not to be learned out of `scenario.classes`."
    )


def test_a_seed_for_a_rule_that_draws_nothing_is_refused():
    """Three seeds of it would be one result three times."""
    with pytest.raises(InputError, match=r"`scenario\.partition\.seed` is 3, but .* draws nothing"):
        Scenario.of("partitioned", TABLE, FOUR_TWO, partition=PartitionRule(seed=3))


@pytest.mark.parametrize(
    ("rule", "key", "value"),
    [(PartitionRule("drawn"), "rule", "'drawn'"), (PartitionRule(seed=3), "seed", "3")],
)
def test_a_rule_of_a_partition_is_refused_in_other_settings(rule, key, value):
    with pytest.raises(InputError) as refused:
        Scenario.of("overlapped", TABLE, FOUR_TWO, partition=rule)
    assert str(refused.value) == (
        f"`scenario.partition.{key}` is {value}, but `scenario.setting` is 'overlapped', which"
        " parts no images: set it to 'partitioned', or `scenario.partition` to {rule: mib, seed:"
        " 0}."
    )
    drawn = PartitionRule("drawn", rule.seed)
    assert Scenario.of("partitioned", TABLE, FOUR_TWO, partition=drawn).partition == drawn
    assert Scenario.of("overlapped", TABLE, FOUR_TWO, partition=PartitionRule()).steps


def test_a_step_without_images_is_named(tmp_path):
    table = ("background", "a", "b")
    scenario = Scenario.of("disjoint", table, {"step0": ["a"], "step1": ["b"]})
    both = [Entry(f"{p}", (p,), "", 1, 2, 0, (0, 1, 1)) for p in ("train", "test")]
    with pytest.raises(InputError, match=r"`steps.step0` has no train images: .* shows a as the"):
        write_splits(tmp_path, scenario, both, table)
    assert list(tmp_path.iterdir()) == []


SOME_SHOW_NO_B = {"step0": ["a", "b"], "step1": ["c"]}
SHOWN = {"train": [(1,), (2, 3)], "test": [(1,), (2,), (3,)]}


def few(shown):
    """Entries of few images that show these raw labels."""
    for part, images in shown.items():
        for raws in images:
            pixels = tuple(int(raw in raws) for raw in range(4))
            yield Entry(f"{part} {raws}", (part,), "", 1, 3, int(raws == (1,)), pixels)


def test_a_class_that_no_training_image_of_its_step_shows_is_named(tmp_path):
    """The step has images, of its other class: without a word, evaluation would find IoU 0."""
    scenario = Scenario.of("disjoint", TABLE[:4], SOME_SHOW_NO_B)
    words = (
        r"^`steps\.step0` learns b, and none of its own training images shows that as the setting"
        r" 'disjoint' asks: .* its IoU will be 0\. Choose other classes or another"
        r" `scenario\.setting`, or add images that show it\.$"
    )
    with pytest.warns(InputWarning, match=words) as warned:
        counts = write_splits(tmp_path, scenario, list(few(SHOWN)), TABLE[:4])
    assert len(warned) == 1
    assert counts["step0"]["train"] == 1  # no step is refused
    assert (tmp_path / "step1" / "train.json").exists()


def test_a_class_that_was_painted_as_void_is_named_with_the_way_out(tmp_path):
    scenario = Scenario.of("overlapped", TABLE[:4], SOME_SHOW_NO_B)
    shown = {"train": [(1,), (3,)], "test": [(1,), (3,)]}
    with pytest.warns(InputWarning, match=r"learns b, .* if b was painted 255, .* paint it 2\.$"):
        write_splits(tmp_path, scenario, list(few(shown)), TABLE[:4])


def test_a_class_that_the_step_s_images_show_is_not(tmp_path):
    scenario = Scenario.of("overlapped", TABLE[:4], SOME_SHOW_NO_B)
    write_splits(tmp_path, scenario, list(few(SHOWN)), TABLE[:4])
