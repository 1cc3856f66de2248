import dataclasses
import json

import numpy as np
import pytest

from cssegcore.core.errors import InputError
from cssegcore.core.types import TO_COME
from cssegcore.evaluation.folder import (
    example_files,
    examples_shown,
    read_evaluation,
    write_nothing,
    write_step,
)
from cssegcore.metrics.continual import class_iou
from cssegcore.metrics.record import Evaluated

CLASSES, LEARNED, SHOWN = ["background", "a", "b"], [0, 0, 1], ["town/one", "two"]
GUESSES = {"background": 9, "classes": [{"class": "a", "threshold": 0.5}]}
MADE = {"step": "step0", "classes": [{"class": "a", "kept": 2}]}


def record(index):
    matrix = [[9, 1, 2][: index + 2]] * 3
    return Evaluated(f"step{index}", index, CLASSES, LEARNED, index + 2, 5, matrix)


def manifest(folder, content):
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text(json.dumps(content))
    return folder


@pytest.fixture
def inputs(tmp_path):
    """The files that a step's training left; the first step has no labels or images made."""
    made = []
    for index in range(2):
        folder = tmp_path / f"step{index}"
        guesses = {"images": {"train": ["x"]}, **(GUESSES if index else {})}
        steps = {"images": [], "steps": [{"step": "older"}, MADE]} if index else {"images": []}
        files = {
            "epochs": folder / "epochs.csv",
            "costs": {"trainable_weights": index},
            "pseudo_labels": manifest(folder / "pseudo_labels", guesses),
            "synthesis": manifest(folder / "synthesis", steps),
        }
        files["epochs"].write_text(f"epoch,loss\n1,0.{index}\n")
        (folder / "synthesis" / "sheets").mkdir()
        (folder / "synthesis" / "sheets" / "step0.png").write_bytes(b"a sheet")
        made.append(files)
    return made


def written(tmp_path, inputs):
    previous = tmp_path / "none"
    write_nothing(previous)
    assert examples_shown(previous) == []
    for index, files in enumerate(inputs):
        out = tmp_path / f"evaluation{index}"
        examples = write_step(
            out, record(index), {"sharp": index / 2}, SHOWN, previous=previous, **files
        )
        examples.mkdir()
        for name in SHOWN[: index + 1]:
            for file in example_files(examples, name):
                file.write_bytes(b"an image")
        previous = out
    return previous


def test_what_is_written_is_read_back(tmp_path, inputs):
    folder = written(tmp_path, inputs)
    assert examples_shown(folder) == SHOWN
    got = read_evaluation(folder)
    assert got.records == [record(0), record(1)]
    assert got.further == [{"sharp": 0.0}, {"sharp": 0.5}]
    assert got.costs == [{"trainable_weights": 0}, {"trainable_weights": 1}]
    assert [(row["running_epoch"], row["step"], row["loss"]) for row in got.epochs] == [
        ("1", "0", "0.0"),
        ("2", "1", "0.1"),
    ]
    (guesses,) = got.pseudo_labels
    assert (guesses.step, guesses.background, guesses.classes) == ("step1", 9, GUESSES["classes"])
    (made,) = got.generated
    assert (made.step, made.statistics, made.sheet.read_bytes()) == ("step1", MADE, b"a sheet")
    one, two = got.examples
    assert (one.name, two.name) == ("town_one", "two")
    assert one.photo.read_bytes() == one.truth.read_bytes() == b"an image"
    assert [path is None for path in one.predictions] == [False, False]
    assert [path is None for path in two.predictions] == [True, False]


def test_a_folder_that_cannot_be_written_is_said_in_one_line(tmp_path, inputs):
    written(tmp_path, inputs)
    (tmp_path / "out" / "step0" / "confusion.json").mkdir(parents=True)
    with pytest.raises(InputError, match=r"cannot write .*out") as refused:
        write_step(
            tmp_path / "out", record(1), {}, [], previous=tmp_path / "evaluation0", **inputs[1]
        )
    assert "\n" not in str(refused.value)


def put(folder, step, classes, learned, matrix):
    seen = len(matrix[0])
    made = Evaluated(f"step{step}", step, classes, learned, seen, 5, matrix)
    (folder / made.step).mkdir(parents=True)
    (folder / made.step / "confusion.json").write_text(json.dumps(dataclasses.asdict(made)))


def test_the_classes_of_steps_that_list_their_images_grow(tmp_path):
    put(tmp_path, 0, ["background", "a", TO_COME], [0, 0, 1], [[6, 0], [2, 2], [1, 3]])
    put(tmp_path, 1, ["background", "a", "b"], [0, 0, 1], [[6, 0, 0], [2, 2, 0], [1, 0, 3]])
    records = read_evaluation(tmp_path).records
    # where classes to come are background, step 0 has 7 pixels right of 12, else 6 of 8
    for future, first in (("background", [7 / 12, 2 / 7]), ("ignore", [6 / 8, 2 / 4])):
        table = class_iou(records, future)
        assert table[0, :2] == pytest.approx(first)
        assert np.isnan(table[0, 2])
        assert table[1] == pytest.approx([6 / 9, 2 / 4, 3 / 4])

    put(tmp_path, 2, ["background", "c", "b", "d"], [0, 0, 1, 2], [[1] * 4] * 4)
    with pytest.raises(InputError, match="step1 and step2 are not steps of one run"):
        read_evaluation(tmp_path)
