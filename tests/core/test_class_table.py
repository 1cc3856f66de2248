"""The classes of a scenario's steps, as one value."""

import doctest

import numpy as np
import pytest

import cssegcore.core.class_table
import cssegcore.data.image_list
import cssegcore.scenario.scenario
from cssegcore.core.class_table import ClassTable

NAMES = [["background", "h", "c"], ["a", "g", "d"], [], ["b"]]
RAW = [[0, 8, 3], [1, 7, 4], [], [2]]
TABLE = ClassTable.of(NAMES, RAW)


@pytest.mark.parametrize(
    "module",
    [cssegcore.core.class_table, cssegcore.data.image_list, cssegcore.scenario.scenario],
    ids=lambda module: module.__name__,
)
def test_the_examples_in_docstrings_hold(module):
    found = doctest.testmod(module)
    assert found.attempted
    assert not found.failed


def test_against_lists_of_lists():
    assert list(TABLE.names) == [name for names in NAMES for name in names]
    assert list(TABLE.raw) == [raw for step in RAW for raw in step]
    assert list(TABLE.foreground) == [raw for step in RAW for raw in step if raw]
    assert TABLE.sizes == [3, 3, 0, 1]
    assert TABLE.step_of == [0, 0, 0, 1, 1, 1, 3]
    assert list(TABLE.new) == [6]


def test_the_classes_of_the_steps_before():
    assert ClassTable.of(NAMES[:3], RAW[:3]) == TABLE.old
    assert list(TABLE.old.new) == []  # a step that brought a domain
    assert list(TABLE.old.old.new) == [3, 4, 5]
    assert list(TABLE.old.old.old.new) == [0, 1, 2]


@pytest.mark.parametrize(("void", "expected"), [("ignore", 255), ("background", 0)])
def test_labels_of_raw_labels(void, expected):
    labels = TABLE.label_table([7, 2], void)
    assert labels.dtype == np.uint8
    want = np.zeros(256)
    want[7], want[2], want[255] = 4, 6, expected
    assert labels.tolist() == want.tolist()


def test_what_no_output_has_cannot_be_visible():
    with pytest.raises(ValueError, match="not in tuple"):
        TABLE.label_table([9], "ignore")


@pytest.mark.parametrize("raw", [RAW[:3], [[0, 8], [1, 7, 4], [], [2]]])
def test_every_class_has_both(raw):
    with pytest.raises(ValueError, match="needs a name and a raw label"):
        ClassTable.of(NAMES, raw)
