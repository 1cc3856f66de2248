import numpy as np
import pytest

from tests.helpers.blobs import SEEN, computed


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
