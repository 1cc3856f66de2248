import math

import pytest
import torch

from cssegcore import checkpoint, evaluate
from cssegcore.data.batches import Images
from cssegcore.metrics.confusion import fold_future, iou
from tests.tiny import CPU, METHODS, OUTPUTS, STEPS, Lists, plan, run

EPOCHS = {"step0": 30, "step1": 12, "step2": 12}


@pytest.fixture(scope="module")
def lists(tmp_path_factory):
    return Lists.write(tmp_path_factory.mktemp("tiny"))


def class_iou(segmenter, images):
    matrix, _ = evaluate.confusion(segmenter, images, 5, 8, CPU, lambda items, _: items, set())
    return iou(fold_future(matrix, "background"))


@pytest.fixture(scope="module", params=METHODS)
def learned(request, lists, tmp_path_factory):
    """What a recipe made of three steps, each from the file of the one before."""
    folder, previous = tmp_path_factory.mktemp(request.param), None
    steps = {}
    for step in STEPS:
        job = lists.prepare(plan(request.param, EPOCHS[step], lr=0.05), step, previous)
        rows = run(job, folder / f"{step}.resume")
        checkpoint.save(previous := folder / f"{step}.safetensors", job.segmenter, job.model)
        steps[step] = job, rows, previous
    return steps


@pytest.mark.parametrize("step", STEPS)
class TestEveryRecipe:
    def test_curves_are_finite_and_fall(self, learned, step):
        _, rows, _ = learned[step]
        assert len(rows) == EPOCHS[step]
        assert all(math.isfinite(value) for row in rows for value in row.values())
        assert rows[-1]["loss"] < rows[0]["loss"]

    def test_outputs_are_the_classes_seen(self, learned, step):
        job, _, path = learned[step]
        loaded, known = checkpoint.load(path, CPU)
        assert loaded.outputs == OUTPUTS[step]
        names = ["background", *(name for s in STEPS for name in STEPS[s] if s <= step)]
        assert [name for head in known.classes for name in head] == names
        photographs = torch.randn(1, 3, 24, 24)
        assert torch.equal(loaded(photographs), job.segmenter.eval()(photographs))

    def test_new_classes_are_learned(self, learned, lists, step):
        job, _, _ = learned[step]
        values = class_iou(job.segmenter, Images(lists.dataset, lists.of(step, "test")))
        assert values[-len(STEPS[step]) :].min() > 0.3


def test_there_are_recipes():
    assert {"ft", "mib", "joint"} <= set(METHODS)
