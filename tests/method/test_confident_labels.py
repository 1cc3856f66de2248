import numpy as np
import pytest
import torch

from cssegcore.method._confident_labels import complete_labels, confident_labels
from tests.helpers.confident_labels_by_loop import plain_labels


def predictions(seed=0, outputs=6, shape=(2, 7, 8)):
    """Logits of an old model, and labels of all kinds: background, a new class, ignored."""
    rng = np.random.default_rng(seed)
    logits = 2 * rng.standard_normal((shape[0], outputs, *shape[1:]))
    return logits, rng.choice([0, 0, 1, outputs, 255], shape)


class TestConfidentLabels:
    @pytest.mark.parametrize("scores", ["sigmoid", "softmax"])
    @pytest.mark.parametrize("first_class", [1, 2])
    @pytest.mark.parametrize("threshold", [0.0, 0.7, 0.9, 1.0])
    def test_against_a_plain_loop(self, scores, first_class, threshold):
        logits, labels = predictions()
        got = confident_labels(
            torch.tensor(logits), torch.tensor(labels), threshold, first_class, scores
        )
        expected = plain_labels(logits, labels, threshold, first_class, scores)
        assert np.array_equal(got.numpy(), expected)
        assert (expected != labels).any() == (threshold < 1)

    @pytest.mark.parametrize(
        ("logits", "label", "expected"),
        [
            pytest.param([0, 0, 2, 1], 0, 2, id="over unknown"),
            pytest.param([0, 0, 2, 1], 1, 2, id="over background"),
            pytest.param([3, 0, 2, 1], 1, 1, id="unknown is above it"),
            pytest.param([0, 3, 2, 1], 0, 0, id="background is above it"),
            pytest.param([0, 0, 0.84, 0], 1, 1, id="not sure: 0.6985"),
            pytest.param([0, 0, 0.85, 0], 1, 2, id="sure: 0.7006"),
            pytest.param([0, 0, 2, 1], 3, 3, id="an annotated class"),
            pytest.param([0, 0, 2, 1], 4, 4, id="a new class"),
            pytest.param([0, 0, 2, 1], 255, 255, id="ignored"),
            pytest.param([0, 0, 40, 41], 1, 3, id="scores of 1 in float32 are told apart"),
        ],
    )
    def test_by_hand(self, logits, label, expected):
        old = torch.tensor(logits, dtype=torch.float32)[None, :, None, None]
        got = confident_labels(old, torch.tensor([[[label]]]), 0.7, 2, "sigmoid")
        assert got.item() == expected

    def test_a_score_that_is_the_threshold_is_believed(self):
        old, labels = torch.zeros(1, 1, 1, 1), torch.zeros(1, 1, 1, dtype=torch.int64)
        classes = torch.cat([old - 1, old], 1)
        assert confident_labels(classes, labels, 0.5, 1, "sigmoid").item() == 1

    def test_softmax_shares_out_what_sigmoid_does_not(self):
        old = torch.tensor([0.0, 0, 4, 4])[None, :, None, None]  # 0.98 each, or a half each
        labels = torch.zeros(1, 1, 1, dtype=torch.int64)
        found = {s: confident_labels(old, labels, 0.7, 2, s).item() for s in ("sigmoid", "softmax")}
        assert found == {"sigmoid": 2, "softmax": 0}

    @pytest.mark.parametrize("scores", ["sigmoid", "softmax"])
    def test_halves_are_compared_in_full(self, scores):
        z = torch.linspace(0.8, 0.9, 64).bfloat16()  # scores of 0.69 to 0.711; 0.7 is at 0.847
        old = torch.stack([torch.zeros_like(z), z])[None, :, None]
        labels = torch.zeros(1, 1, 64, dtype=torch.int64)
        got = confident_labels(old, labels, 0.7, 1, scores)
        assert torch.equal(got[0, 0], (z.float() > 0.8473).long())
        assert set(got.unique().tolist()) == {0, 1}

    @pytest.mark.parametrize("background", [0, 1])
    def test_in_classes_it_is_the_same_with_the_unknown_class_left_out(self, background):
        logits, labels = predictions(2)
        labels[labels == 1] = 0  # of this step: background, new classes, void
        outputs = np.where(labels == 255, 255, labels + background)
        sure = plain_labels(logits, outputs, 0.7, 1 + background, "sigmoid")
        got = complete_labels(
            torch.tensor(logits), torch.tensor(labels), 0.7, background, "sigmoid"
        )
        assert np.array_equal(got.numpy(), np.where(sure == 255, 255, sure - background))
        assert (got.numpy() != labels).any()
