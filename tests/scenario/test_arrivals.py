"""New photographs are shared out: who is trained on, and who is held out."""

import pytest

from cssegcore.core.errors import InputError
from cssegcore.data.index import Entry
from cssegcore.data.layouts.folder import by_digest, drawn_part
from cssegcore.scenario.arrivals import hold_out

GOAT, PIG = 1, 2
CLASSES = {GOAT: "goat", PIG: "pig"}


def entries(**shown):
    return [
        Entry(name, (), name, 1, 1, 0, tuple(int(raw in raws) for raw in range(3)))
        for name, raws in shown.items()
    ]


def names(chosen):
    return [[entry.name for entry in kind] for kind in chosen]


def test_names_draw_their_parts():
    many = entries(**{f"i{k}": (GOAT, PIG) for k in range(60)})
    train, val, test = names(hold_out(many, CLASSES))
    for part, of in (("train", train), ("val", val), ("test", test)):
        assert of == [entry.name for entry in many if drawn_part(entry.name) == part]


def test_a_class_has_one_to_train_and_one_to_test_on():
    # a and b draw training, so a goat is held out; d draws a test, so a pig is trained on
    assert [drawn_part(name) for name in "abdj"] == ["train", "train", "test", "test"]
    train, _, test = names(hold_out(entries(a=[GOAT], b=[GOAT], d=[PIG], j=[PIG]), CLASSES))
    assert [len({*train} & {*pair}) for pair in ("ab", "dj")] == [1, 1]
    assert [len({*test} & {*pair}) for pair in ("ab", "dj")] == [1, 1]
    assert by_digest("ab")[0] in test
    assert by_digest("dj")[-1] in train


def test_the_only_one_is_trained_on():
    train, val, test = names(hold_out(entries(d=[GOAT], a=[PIG], b=[PIG]), CLASSES))
    assert "d" in train
    assert val == []
    assert len(test) == 1


def test_a_person_may_choose():
    chosen = hold_out(entries(a=[GOAT], b=[GOAT, PIG], d=[0]), CLASSES, held_out=["a"])
    assert names(chosen) == [["b", "d"], [], ["a"]]


def test_a_class_that_no_training_image_shows_is_refused():
    with pytest.raises(InputError, match=r"trained on shows 'pig' \(label 2\): add some, or leave"):
        hold_out(entries(a=[GOAT], b=[0]), CLASSES)
    with pytest.raises(InputError, match="shows 'goat'"):
        hold_out(entries(a=[GOAT], b=[PIG]), CLASSES, held_out=["a"])
