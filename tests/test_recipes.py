import math

import pytest

from cssegcore import checkpoint
from tests.tiny import CPU, METHODS, MODEL, OUTPUTS, STEPS, VIEWS, Lists, plan, run, state

EPOCHS = {"step0": 25, "step1": 12, "step2": 12}
WIDER = MODEL | {"stem": [8, 8], "widths": [16, 16, 16], "depth": 16}
WHOLE = VIEWS | {"size": 24, "area": [0.7, 1]}


@pytest.fixture(scope="module")
def lists(tmp_path_factory):
    return Lists.write(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module", params=METHODS)
def learned(request, lists, tmp_path_factory):
    """What a recipe made of three steps, each from the file of the one before."""
    folder, previous = tmp_path_factory.mktemp(request.param), None
    steps = {}
    for step in STEPS:
        how = plan(request.param, EPOCHS[step], model=WIDER, augmentation=WHOLE)
        job = lists.prepare(how, step, previous)
        rows = run(job, folder / f"{step}.resume")
        previous = folder / f"{step}.safetensors"
        checkpoint.save(previous, job.segmenter, job.model)
        steps[step] = job, rows, previous
    return steps


@pytest.mark.parametrize("step", STEPS)
class TestEveryRecipe:
    def test_learns(self, learned, step):
        _, rows, _ = learned[step]
        assert [row["epoch"] for row in rows] == list(range(1, EPOCHS[step] + 1))
        assert all(math.isfinite(value) for row in rows for value in row.values())
        assert rows[-1]["loss"] < 0.95 * rows[0]["loss"]

    def test_outputs_are_the_classes_seen(self, learned, step):
        job, _, path = learned[step]
        loaded, known = checkpoint.load(path, CPU)
        assert state(loaded) == state(job.segmenter)
        assert loaded.outputs == OUTPUTS[step]
        seen = ["background", *(name for s in STEPS if s <= step for name in STEPS[s])]
        assert [name for head in known.classes for name in head] == seen
        assert known.step == step


def test_there_are_recipes():
    assert {"ft", "mib", "joint"} <= set(METHODS)
