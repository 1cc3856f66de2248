"""Metrics that a recipe names beside those from the confusion matrix."""

import pytest

from cssegcore.core.errors import InputError
from cssegcore.evaluation.meters import build_metrics
from tests.helpers.blobs import SEEN, computed

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
