import numpy as np
import pytest
import torch

from cssegcore.core.errors import InputError
from cssegcore.core.registry import build_part
from cssegcore.method.pseudo_labels import PseudoLabels
from cssegcore.method.pseudo_labels.selective import select_labels


def by_hand(logits, labels, threshold):
    made = labels.copy()
    for b, y, x in np.ndindex(labels.shape):
        if labels[b, y, x] != 0:
            continue
        raised = np.exp(logits[b, :, y, x])
        scores = raised / raised.sum()
        best = scores.argmax()
        if best > 0 and scores[best] >= threshold:
            made[b, y, x] = best
        elif scores[0] < 0.5:
            made[b, y, x] = 255
    return made


@pytest.mark.parametrize("threshold", [0.3, 0.7])
def test_what_is_sure_is_a_label_and_what_is_doubted_void(threshold):
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (2, 4, 12, 12))
    labels = rng.choice([0, 0, 0, 4, 5, 255], (2, 12, 12))
    got = select_labels(torch.tensor(logits), torch.tensor(labels), threshold).numpy()
    expected = by_hand(logits, labels, threshold)
    assert np.array_equal(got, expected)
    was_open = got[labels == 0]
    assert {0, 1, 2, 3, 255} == set(np.unique(was_open))
    assert np.array_equal(got[labels != 0], labels[labels != 0])


def test_a_threshold_is_a_probability():
    recipe = {"part": "selective", "threshold": 1.5}
    with pytest.raises(InputError, match="`threshold` must lie in"):
        build_part("cssegcore.method.pseudo_labels", PseudoLabels, recipe, "x")
