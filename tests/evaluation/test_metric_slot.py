"""Metrics beside those from the confusion matrix: the slot, its parts, and where numbers go."""

import json
import math

import numpy as np
import pytest
import torch

from cssegcore.core.errors import InputError
from cssegcore.evaluation.meters import Meters, build_metrics
from cssegcore.metrics.counting import confusion_matrix
from cssegcore.metrics.record import Evaluated
from stages.common.reporting import log_run
from tests.helpers.tiny_training import CPU

CLASSES, SEEN, LEARNED = ["background", "a", "b", "c", "d"], 4, [0, 0, 1, 1, 2]
SIZES = [(2, 17, 23), (1, 30, 12), (3, 9, 9)]


def blobs(rng, shape, classes):
    """Label images with regions of some size."""
    coarse = rng.integers(0, classes, (shape[0], 5, 5))
    rows, columns = (np.arange(size) * 5 // size for size in shape[1:])
    return coarse[:, rows][:, :, columns]


@pytest.fixture(scope="module")
def batches():
    """Truth with void and a class to come, and predictions."""
    rng = np.random.default_rng(0)
    made = []
    for shape in SIZES:
        truth, predicted = blobs(rng, shape, len(CLASSES)), blobs(rng, shape, SEEN)
        same = np.where(truth < SEEN, truth, predicted)
        predicted = np.where(rng.random((shape[0], 1, 1)) < 0.5, predicted, np.roll(same, 1, 2))
        truth[rng.random(shape) < 0.02] = 255
        truth[:, :2] = 255
        made.append((truth, predicted))
    return made


def computed(recipes, batches, future="background"):
    """Numbers of metrics after batches; logits are noise, which the shipped ones do not read."""
    meters = Meters(build_metrics(recipes, "evaluation.metrics"), SEEN, future, CPU)
    matrix = torch.zeros(len(CLASSES), SEEN, dtype=torch.int64)
    for truth, predicted in batches:
        pair = torch.from_numpy(truth), torch.from_numpy(predicted)
        meters.update(*pair, torch.randn(len(truth), SEEN, *truth.shape[1:]))
        matrix += confusion_matrix(*pair, len(CLASSES), SEEN)
    meters.gather()
    record = Evaluated("step1", 1, CLASSES, LEARNED, SEEN, 6, matrix.tolist())
    return meters.compute(record)


def eroded(mask):
    """One erosion by 3 x 3 pixels; what lies beyond the edge is not of the mask."""
    padded = np.pad(mask, 1)
    height, width = mask.shape
    shifts = [(y, x) for y in range(3) for x in range(3)]
    return np.all([padded[y : y + height, x : x + width] for y, x in shifts], axis=0)


def boundary(mask, width):
    inner = mask
    for _ in range(max(1, round(width * math.sqrt(mask.shape[0] ** 2 + mask.shape[1] ** 2)))):
        inner = eroded(inner)
    return mask & ~inner


def plain_boundary_iou(batches, width, future):
    """Class by class and image by image, by erosions."""
    both, either, there = np.zeros(SEEN), np.zeros(SEEN), np.zeros(SEEN)
    for truths, predictions in batches:
        for truth, predicted in zip(truths, predictions, strict=True):
            seen = np.where(truth == 4, 0 if future == "background" else 255, truth)
            for c in range(SEEN):
                true = boundary(seen == c, width)
                found = boundary((predicted == c) & (seen != 255), width)
                both[c] += (true & found).sum()
                either[c] += (true | found).sum()
                there[c] += true.sum()
    return [100 * b / e if t else None for b, e, t in zip(both, either, there, strict=True)]


class TestBoundaryIoU:
    @pytest.mark.parametrize("future", ["background", "ignore"])
    @pytest.mark.parametrize("width", [0.001, 0.02, 0.1, 1.0])
    def test_against_erosions_of_every_mask(self, batches, width, future):
        recipe = {"sharp": {"part": "boundary_iou", "width": width}}
        got = computed(recipe, batches, future)["sharp"]
        plain = plain_boundary_iou(batches, width, future)
        assert got["all"] == pytest.approx(sum(plain) / SEEN, abs=1e-3)
        assert got["old"] == pytest.approx(sum(plain[:2]) / 2, abs=1e-3)
        assert got["new"] == pytest.approx(sum(plain[2:]) / 2, abs=1e-3)
        assert got["base_nobg"] == pytest.approx(plain[1], abs=1e-3)
        assert 0 < got["all"] < 100

    def test_what_is_right_wherever_it_counts_has_100(self, batches):
        right = [(t, np.where(t < SEEN, t, 0)) for t, _ in batches]
        got = computed({"x": {"part": "boundary_iou"}}, right)["x"]
        assert {value for value in got.values() if value is not None} == {100.0}

    def test_a_class_without_truth_is_in_no_mean(self):
        truth = np.zeros((1, 8, 8), np.int64)
        got = computed({"x": {"part": "boundary_iou"}}, [(truth, truth)])["x"]
        assert (got["all"], got["old_nobg"], got["new"]) == (100.0, None, None)

    @pytest.mark.parametrize("width", [0, -1, 1.1, float("nan")])
    def test_a_width_that_is_no_share_is_refused(self, width):
        with pytest.raises(InputError, match=r"`evaluation.metrics.x`: `width` must lie in"):
            build_metrics({"x": {"part": "boundary_iou", "width": width}}, "evaluation.metrics")


def test_the_worst_class_is_that_of_each_group(batches):
    got = computed({"worst": {"part": "worst_class_iou"}}, batches)["worst"]
    iou = []
    for c in range(SEEN):
        truth = np.concatenate([np.where(t == 4, 0, t).ravel() for t, _ in batches])
        predicted = np.concatenate([p.ravel() for _, p in batches])[truth != 255]
        true, found = truth[truth != 255] == c, predicted == c
        iou.append(100 * (true & found).sum() / (true | found).sum())
    assert got["all"] == pytest.approx(min(iou), abs=1e-3)
    assert got["all_nobg"] == pytest.approx(min(iou[1:]), abs=1e-3)
    assert got["new"] == pytest.approx(min(iou[2:]), abs=1e-3)


SURENESS = """
import dataclasses
import torch
from cssegcore.evaluation.metrics import Metric

@dataclasses.dataclass(frozen=True)
class Sureness(Metric):
    times: float = 1.0

    def state(self, classes):
        return torch.zeros(2, dtype=torch.float64)

    def update(self, state, batch):
        state += torch.tensor([batch.logits.softmax(1).amax(1).sum(), batch.labels.numel()])

    def compute(self, state, matrix, groups):
        return self.times * state[0] / state[1]
"""


def test_a_file_is_all_that_a_metric_takes(tmp_path, monkeypatch, batches):
    import cssegcore.evaluation.metrics as slot

    (tmp_path / "sureness.py").write_text(SURENESS)
    monkeypatch.setattr(slot, "__path__", [*slot.__path__, str(tmp_path)])
    recipes = {"sure": {"part": "sureness", "times": 2}, "worst": {"part": "worst_class_iou"}}
    got = computed(recipes, batches)
    assert list(got) == ["sure", "worst"]
    assert 2 / SEEN < got["sure"] < 2


@pytest.mark.parametrize(
    ("recipes", "said"),
    [
        (
            {"miou": {"part": "worst_class_iou"}},
            "`evaluation.metrics.miou`: a number of every run",
        ),
        ({"accuracy_top2": {"part": "worst_class_iou"}}, "call it otherwise"),
        ({"a/b": {"part": "worst_class_iou"}}, "must be made of letters, digits and `_`"),
        ({"x": {"part": "boundary"}}, "there is no part 'boundary'.*`boundary_iou`"),
        (
            {"x": {"part": "worst_class_iou", "width": 1}},
            "`evaluation.metrics.x.width` is not a key",
        ),
    ],
)
def test_refusals(recipes, said):
    with pytest.raises(InputError, match=said):
        build_metrics(recipes, "evaluation.metrics")


class Told:
    """A run that selects_exemplars what it is told."""

    def __init__(self):
        self.points = {}
        self.steps = {}

    def metrics(self, values, *, step):
        self.points |= {(name, step): value for name, value in values.items()}

    def step(self, name):
        return self.steps.setdefault(name, Told())

    def artifacts(self, path, folder):
        pass

    def finish(self):
        pass


def test_a_finished_run_is_told_with_all_its_numbers(tmp_path):
    for index in range(2):
        step = tmp_path / f"step{index}"
        step.mkdir()
        matrix = np.arange(1, 3 * (index + 2) + 1).reshape(3, index + 2).tolist()
        record = Evaluated(
            step.name, index, ["background", "a", "b"], [0, 0, 1], index + 2, 9, matrix
        )
        (step / "confusion.json").write_text(json.dumps(vars(record)))
        (step / "epochs.csv").write_text("epoch,loss\n1,0.5\n")
    (step / "further.json").write_text('{"sharp": {"all": 12.5}, "alone": 3.25}')
    (step / "costs.json").write_text('{"trainable_weights": 7, "kept_bytes": {"exemplars": 9}}')
    told = Told()
    log_run(told, tmp_path, tmp_path, "background", {"step1": 4.5})
    assert told.points["sharp/all", 1] == 12.5
    assert told.points["alone", 1] == 3.25
    assert told.points["trainable_weights", 1] == 7
    assert told.points["kept_bytes/exemplars", 1] == 9
    assert told.steps["step1"].points["seconds", 0] == 4.5
    assert told.steps["step0"].points["seconds", 0] is None
    assert told.steps["step1"].points["kept_bytes/exemplars", 0] == 9
    names = {name for name, step in told.points if step == 0}
    assert names >= {"miou/all", "miou/new_nobg", "harmonic", "accuracy", "fw_iou"}
    assert not any(name.startswith(("sharp", "alone")) for name in names)
