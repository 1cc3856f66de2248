"""What a dataset and a scenario hold, counted by hand."""

from dataclasses import replace

from cssegcore.data.index import Entry
from cssegcore.scenario.overview import SharedImage, count_classes, count_steps, shared_images
from cssegcore.scenario.scenario import Scenario
from cssegcore.scenario.splits import step_lists

TABLE = ("background", "cat", "dog", "sheep")
PIXELS = {
    ("a", "train"): (6, 4, 0, 0),
    ("b", "train"): (5, 0, 5, 0),
    ("c", "train"): (0, 1, 9, 0),
    ("t", "test"): (2, 3, 5, 0),
    ("v", "val"): (9, 0, 1, 0),
}
SCENARIO = Scenario.of(
    "overlapped", TABLE, {"step0": ["dog"], "step1": ["cat"]}, left_out="background"
)


def entries(**digests):
    return [
        Entry(name, (part,), digests.get(name, f"of {name}"), 2, 5, 0, pixels)
        for (name, part), pixels in PIXELS.items()
    ]


def test_classes():
    background, cat, dog, sheep = count_classes(SCENARIO, entries(), TABLE)
    assert background == ("background", 0, "", 4, 22, 22 / 50)
    assert cat == ("cat", 1, "step1", 3, 8, 8 / 50)
    assert dog == ("dog", 2, "step0", 4, 20, 20 / 50)
    assert sheep == ("sheep", 3, "", 0, 0, 0)


def test_steps():
    images = entries()
    lists = step_lists(SCENARIO, images, TABLE)
    assert count_steps(SCENARIO, lists, images, TABLE) == [
        ("step0", "cat", "later", 1, False, 1),
        ("step0", "dog", "new", 2, True, 1),
        ("step1", "cat", "new", 2, True, 1),
        ("step1", "dog", "old", 1, False, 1),
    ]


def test_shared_images_and_leaks():
    lists = step_lists(SCENARIO, entries(), TABLE)
    both = SharedImage("c", "c", "step0/train", "step1/train")
    assert shared_images(lists) == [both]
    assert not both.is_leak

    twins = step_lists(SCENARIO, entries(t="of b", a="of c"), TABLE)
    found = shared_images(twins)
    assert SharedImage("b", "t", "step0/train", "step1/test") in found
    assert SharedImage("a", "c", "step1/train", "step1/train") in found
    assert [image.is_leak for image in found if image.other == "t"] == [True, True]


def test_the_same_photograph_is_shared_whatever_its_labels_are():
    photographs = {"b": "one", "t": "one"}
    images = [replace(e, photograph=photographs.get(e.name, e.name)) for e in entries()]
    lists = step_lists(SCENARIO, images, TABLE)
    found = shared_images(lists, images)
    assert SharedImage("b", "t", "step0/train", "step1/test") in found
    assert {(image.name, image.other) for image in found} == {("c", "c"), ("b", "t")}
