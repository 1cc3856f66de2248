import numpy as np
import pytest

from cssegcore.core.config import parse
from cssegcore.core.errors import InputError
from cssegcore.data.index import Entry
from cssegcore.scenario.partition import PartitionRule, draw_places, partition
from cssegcore.scenario.scenario import Scenario
from cssegcore.scenario.splits import training_images

TABLE = ("background", *"abcdefghi")
STEPS = {"step0": ["a", "f", "c"], "step1": ["i", "b", "d"], "step2": ["e", "h", "g"]}
FINER = {"step1": [["d"], ["i", "b"]], "step2": [["g"], ["h"], ["e"]]}


def slow_partition(images, partition_groups):
    """MiB's partition by its rules one by one, everything counted anew for every image."""
    classes = sorted(c for portion in partition_groups for c in portion)
    number = {c: sum(c in shown for shown in images) for c in classes}
    place_of = {c: place for place, portion in enumerate(partition_groups) for c in portion}
    order = []
    for c in classes:
        for image, shown in enumerate(images):
            if c in shown and image not in order:
                order.append(image)
    places = [None] * len(images)
    for image in order:
        held = [c for c in classes if c in images[image]]
        scores = []
        for c in held:
            added = sum(
                c in shown and places[other] == place_of[c] for other, shown in enumerate(images)
            )
            scores.append(120 * (1 - added / number[c]) + sum(number[d] for d in held) / number[c])
        places[image] = place_of[held[int(np.argmax(scores))]]
    return places


@pytest.mark.parametrize(
    ("images", "partition_groups", "places"),
    [
        # scores 31.25 and 125: the rare class has it
        ([{1}, {1}, {1}, {1, 2}], [[1], [2]], [0, 0, 0, 1]),
        # a tie: the smaller class, wherever its portion stands
        ([{2, 1}], [[1], [2]], [0]),
        ([{2, 1}], [[2], [1]], [1]),
        # the second time class 1 has one of its two images, and class 2, of another portion, none
        ([{1, 2}, {1, 2}], [[1], [2]], [0, 1]),
        # what goes to a portion counts for all classes of it: 62 against 122 for the second image
        ([{1, 2, 3}, {2, 3}], [[1, 2], [3]], [0, 1]),
        # class after class, not image after image, which would give the first to class 2
        ([{2, 3}, {1, 2}, {1}, {1}, {3}, {3}], [[1], [2], [3]], [2, 1, 0, 0, 2, 2]),
        # background and void are no classes
        ([{0}, {0, 255}, {0, 2, 255}, set()], [[1], [2]], [None, None, 1, None]),
        ([], [[1], [2]], []),
    ],
)
def test_places_by_hand(images, partition_groups, places):
    assert partition(images, partition_groups) == places
    assert slow_partition(images, partition_groups) == places


def shown_in(count, classes, seed):
    """Random images; classes are the rarer the higher, some images show none."""
    rng = np.random.default_rng(seed)
    rare = 1 / np.arange(1, classes + 1)
    for _ in range(count):
        number = rng.integers(0, min(classes, 6))
        yield {int(c) + 1 for c in rng.choice(classes, number, False, rare / rare.sum())}


@pytest.mark.parametrize("seed", range(4))
def test_places_of_many_images_are_those_of_the_rules(seed):
    images = list(shown_in(200, 12, seed))
    partition_groups = np.array_split(np.random.default_rng(seed).permutation(12) + 1, 2 + seed)
    partition_groups = [portion.tolist() for portion in partition_groups]
    places = partition(images, partition_groups)
    assert places == slow_partition(images, partition_groups)
    assert [place is None for place in places] == [not shown for shown in images]
    assert set(places) - {None} == set(range(2 + seed))


@pytest.mark.slow
def test_the_rule_is_fast_enough_for_ade():
    """20,210 images and 150 classes: whoever counts anew for every image is at it for hours."""
    images = list(shown_in(20_210, 150, 0))
    partition_groups = [range(1, 101), *(range(k, k + 10) for k in range(101, 151, 10))]
    assert sum(place is not None for place in partition(images, partition_groups)) == sum(
        map(bool, images)
    )


def entries(part="train"):
    for place, shown in enumerate(shown_in(150, 9, 7)):
        pixels = tuple(int(raw in shown) for raw in range(10))
        yield Entry(f"{part} {place}", (part,), "", 3, 3, 0, pixels)


def names(scenario):
    given = [*entries("val"), *entries()]
    return [[e.name for e in images] for images in training_images(scenario, given)]


def test_portions_of_a_step_are_joined():
    raw = [[TABLE.index(c) for c in p] for p in (STEPS["step0"], *FINER["step1"], *FINER["step2"])]
    places = slow_partition([e.present for e in entries()], raw)
    wanted = [[f"train {i}" for i, at in enumerate(places) if at in own] for own in WHOSE]
    assert names(Scenario.of("partitioned", TABLE, STEPS, FINER)) == wanted
    assert names(Scenario.of("partitioned", TABLE, STEPS)) != wanted


WHOSE = ({0}, {1, 2}, {3, 4, 5})


def test_portions_change_nothing_elsewhere():
    for setting in ("overlapped", "disjoint", "sequential"):
        with_them = Scenario.of(setting, TABLE, STEPS, FINER)
        assert names(with_them) == names(Scenario.of(setting, TABLE, STEPS))


def test_one_image_does_not_tell_its_step():
    with pytest.raises(ValueError, match="a partition is of all images"):
        Scenario.of("partitioned", TABLE, STEPS).trains({0, 1}, 0)


@pytest.mark.parametrize(
    ("partition_groups", "words"),
    [
        (
            {"step1": [["i", "b"]]},
            r"partition_groups.step1` lists 'd' 0 times: list each class of `scenar",
        ),
        ({"step1": [["i", "b"], ["d", "b"]]}, r"step1` lists 'b' 2 times: list each .* or take `s"),
        ({"step2": [["e", "h"], ["a", "g"]]}, r"step2` lists 'a' 1 times, and the step does not"),
        ({"step2": [["e", "h"], ["g", "x"]]}, r"step2` lists 'x' 1 times, and the step does not"),
        ({"step2": []}, r"step2` lists 'e' 0 times"),
        (
            {"step3": [["e"]]},
            r"partition_groups.step3` is of no step\..* Steps: step0, step1, step2\.",
        ),
    ],
)
@pytest.mark.parametrize("setting", ["partitioned", "overlapped"])
def test_portions_that_are_none_are_refused(setting, partition_groups, words):
    with pytest.raises(InputError, match=words):
        Scenario.of(setting, TABLE, STEPS, partition_groups)


def test_every_class_of_an_image_is_drawn_as_often_as_another():
    """Against the distribution: an image goes to a step with the share of its classes there."""
    images = [*shown_in(400, 9, 3), {0, 255}, set()]
    portions = [[1, 6, 3], [9, 2, 4], [5, 8, 7]]
    every = [draw_places(images, portions, seed) for seed in range(300)]
    draws = np.array([[-1 if place is None else place for place in places] for places in every])
    for image, shown in enumerate(images):
        held = [c for c in shown if 0 < c < 10]
        wanted = [len({*portion}.intersection(held)) / max(1, len(held)) for portion in portions]
        got = [(draws[:, image] == place).mean() for place in range(3)]
        assert np.abs(np.subtract(got, wanted)).max() < 0.15  # 5 deviations of 300 draws
        assert ((draws[:, image] == -1) == (not held)).all()
    assert draw_places(images, portions, 7) == draw_places(images, portions, 7)


def test_the_rule_and_its_seed_are_the_scenario_s():
    rule = PartitionRule("drawn", 4)
    raw = [[TABLE.index(c) for c in STEPS[step]] for step in STEPS]
    places = draw_places([e.present for e in entries()], raw, 4)
    wanted = [[f"train {i}" for i, at in enumerate(places) if at == step] for step in range(3)]
    assert names(Scenario.of("partitioned", TABLE, STEPS, partition=rule)) == wanted
    # finer groups share nothing out that is drawn by classes
    assert names(Scenario.of("partitioned", TABLE, STEPS, FINER, partition=rule)) == wanted
    assert names(Scenario.of("partitioned", TABLE, STEPS)) != wanted


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"rule": "random"}, "`x.rule` must be one of mib, drawn; got 'random'"),
        ({"rule": "drawn", "seed": -1}, "`x`: `seed` must be >= 0, got -1"),
    ],
)
def test_other_rules_are_refused(given, words):
    with pytest.raises(InputError, match=words):
        parse(PartitionRule, given, "x")
