import math

import numpy as np
import pytest

from cssegcore.core.errors import InputError
from cssegcore.evaluation.meters import build_metrics
from tests.helpers.blobs import SEEN, computed


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
