"""The lists of every scenario of Pascal VOC, from its real labels, against published numbers.

fcdl94/MiB and LTTM/SDR commit lists of images, clovaai/SSUL a list of classes for each image: the
numbers are of those. Where a table has no row for a scenario, its numbers follow from others.
"""

import pytest

from bench import counts
from cssegcore.scenario.partition import PartitionRule
from cssegcore.scenario.scenario import Scenario
from cssegcore.scenario.splits import step_lists
from tests.helpers import tiny_dataset as scenes
from tests.helpers.shared_data import SHARED

pytestmark = pytest.mark.slow

LATER_OV = [528, 1177, 444, 482, 3898, 487, 299, 491, 500, 548]  # classes 11 to 20, one at a time
LATER_DJ = [188, 868, 227, 201, 3247, 378, 299, 420, 500, 548]
LATER_VAL = [75, 128, 79, 76, 446, 85, 57, 90, 84, 74]
LATER_TEST = [893, 1005, 1081, 1140, 1240, 1277, 1329, 1353, 1421, 1449]

TRAIN = {
    "overlapped": {
        "19-1": [10410, 548],
        "19-1b": [10427, 654],
        "15-5": [9568, 2145],
        "15-1": [9568, *LATER_OV[5:]],
        "10-10": [6139, 6876],
        "10-5": [6139, 5542, 2145],
        "10-1": [6139, *LATER_OV],
        "5-5": [2836, 3604, 5542, 2145],
        "5-3": [2836, 2331, 1542, 2095, 4484, 1468],
        "5-1": [2836, 385, 1086, 1000, 1081, 264, *LATER_OV],
        "2-2": [1072, 1151, 1039, 2080, 1345, 1701, 925, 4236, 790, 1048],
        "2-1": [1072, 698, 461, 654, 385, 1086, 1000, 1081, 264, *LATER_OV],
    },
    "disjoint": {
        "19-1": [10034, 548],
        "19-1b": [9928, 654],
        "15-5": [8437, 2145],
        "15-1": [8437, *LATER_DJ[5:]],
        "10-10": [3706, 6876],
        "10-5": [3706, 4731, 2145],
        "10-1": [3706, *LATER_DJ],
        "5-5": [1753, 1953, 4731, 2145],
        "5-3": [1753, 1517, 624, 1296, 3924, 1468],
        "5-1": [1753, 139, 566, 812, 220, 216, *LATER_DJ],
        "2-2": [653, 936, 303, 1378, 436, 1056, 428, 3625, 719, 1048],
        "2-1": [653, 641, 295, 164, 139, 566, 812, 220, 216, *LATER_DJ],
    },
}
VAL = {
    "19-1": [1421, 74],
    "19-1b": [1414, 96],
    "15-5": [1240, 354],
    "15-1": [1240, *LATER_VAL[5:]],
    "10-10": [869, 897],
    "10-5": [869, 647, 354],
    "10-1": [869, *LATER_VAL],
    "5-5": [433, 479, 647, 354],
    "5-3": [433, 296, 226, 281, 562, 238],
    "5-1": [433, 74, 127, 119, 123, 71, *LATER_VAL],
    "2-2": [169, 173, 169, 246, 194, 200, 155, 508, 147, 158],
    "2-1": [169, 103, 72, 96, 74, 127, 119, 123, 71, *LATER_VAL],
}
TEST = {5: 433, 8: 699, 10: 869} | dict(zip(range(11, 21), LATER_TEST, strict=True))
"""By the number of classes seen, in the dataset's order."""
PER_CLASS = {
    "train": [586, 486, 698, 461, 654, 385, 1086, 1000, 1081, 264, *LATER_OV],
    "val": [90, 79, 103, 72, 96, 74, 127, 119, 123, 71, *LATER_VAL],
}


@pytest.fixture(scope="session")
def entries():
    """What the label images hold, each decoded once, straight out of the archive."""
    archive = SHARED / "data" / "voc2012_labels.tar"
    if not archive.is_file():
        pytest.skip(f"{archive.name} is not in {archive.parent}; point CSSEGCORE_SHARED there")
    found = counts.voc_entries(archive)
    assert len(found) == 12_031
    return found


def lists(entries, name, setting):
    """Returns each kind of list, in the order of the steps."""
    params = scenes.composed(f"scenario=voc/{name}")
    table, steps = params["dataset"]["classes"], params["scenario"]["classes"]
    found = step_lists(Scenario.of(setting, table, steps), entries, table)
    return {kind: [found[step][kind] for step in steps] for kind in found["step0"]}


def drawn(entries, seed):
    params = scenes.composed("scenario=voc/15-1")
    table, steps = params["dataset"]["classes"], params["scenario"]["classes"]
    rule = PartitionRule("drawn", seed)
    found = step_lists(Scenario.of("partitioned", table, steps, partition=rule), entries, table)
    return [found[step]["train"].names for step in steps]


def numbers(entries, name, setting):
    found = lists(entries, name, setting)
    return {kind: [len(one.images) for one in steps] for kind, steps in found.items()}


def test_images_of_a_class(entries):
    for part, numbers in PER_CLASS.items():
        images = [e.present for e in entries if part in e.parts]
        assert [sum(c in shown for shown in images) for c in range(1, 21)] == numbers


@pytest.mark.parametrize("setting", TRAIN)
@pytest.mark.parametrize("name", VAL)
def test_numbers_of_images_are_those_of_the_published_lists(entries, setting, name):
    got = numbers(entries, name, setting)
    assert got["train"] == TRAIN[setting][name]
    assert got["val"] == VAL[name]
    if name == "19-1b":
        assert got["test"] == [1414, 1449]
    else:
        base, increment = map(int, name.split("-"))
        seen = range(base, 21, increment)
        assert [TEST.get(k, n) for k, n in zip(seen, got["test"], strict=True)] == got["test"]
    assert got["seen"][-1] == 10_582


def test_every_scenario_of_voc_is_held_against_a_table():
    committed = {path.stem for path in (scenes.HOME / "conf/scenario/voc").glob("*.yaml")}
    assert committed == set(VAL) == set(TRAIN["overlapped"]) == set(TRAIN["disjoint"])


def test_the_counted_images_are_those_of_the_published_lists():
    held = counts.read_counts()
    for setting, scenarios in TRAIN.items():
        for name, images in scenarios.items():
            assert held[f"voc/{name}"][setting]["train"] == images


def test_the_counted_images_are_what_the_rules_give(entries):
    held = counts.read_counts()
    for name in ("15-1", "19-1b"):
        for setting in ("overlapped", "sequential"):
            assert held[f"voc/{name}"][setting] == counts.counted(f"voc/{name}", setting, entries)


def test_sequential_lists_have_the_images_of_the_disjoint_ones(entries):
    sequential, disjoint = (lists(entries, "15-1", s)["train"] for s in ("sequential", "disjoint"))
    assert [one.images for one in sequential] == [one.images for one in disjoint]
    assert sequential[2].visible == list(range(1, 18))


def test_a_partition_has_every_image_once(entries):
    got = numbers(entries, "15-1", "partitioned")
    assert sum(got["train"]) == got["seen"][-1] == 10_582
    assert got["train"] != TRAIN["disjoint"]["15-1"]
    assert (got["val"], got["test"][0]) == (VAL["15-1"], 1240)


def test_the_drawn_partition_has_the_numbers_of_the_released_lists(entries):
    """Kwak, Cha and Moon, arXiv 2405.09858: Pascal VOC 15-1, seed 0."""
    assert [len(names) for names in drawn(entries, 0)] == [9031, 254, 266, 270, 434, 327]
    assert drawn(entries, 0) != drawn(entries, 1)
