import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from cssegcore.core.errors import InputError
from cssegcore.core.registry import build_part
from cssegcore.method.losses import Loss
from cssegcore.method.losses.ce import cross_entropy
from tests.helpers.loss_inputs import random_batch


def plain(scores, label):
    """Minus the log of the label's softmax."""
    return math.log(math.fsum(math.exp(s) for s in scores)) - scores[label]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("average", ["all", "labelled"])
def test_against_plain_loops(seed, average):
    logits, _, labels = random_batch(seed)
    z, y = logits.detach().numpy(), labels.numpy()
    values = [plain(z[b, :, i, j], y[b, i, j]) for b, i, j in zip(*np.where(y != 255), strict=True)]
    got = cross_entropy(logits, labels, average)
    count = y.size if average == "all" else len(values)
    assert got.item() == pytest.approx(sum(values) / count, rel=1e-12)


class TestByHand:
    def test_equal_scores(self):
        label = torch.zeros(1, 1, 1, dtype=torch.int64)
        assert cross_entropy(torch.zeros(1, 4, 1, 1), label).item() == pytest.approx(math.log(4))

    def test_ignored_pixels_count_in_the_mean_or_not(self):
        flat = torch.zeros(1, 2, 1, 4)
        labels = torch.tensor([[[0, 255, 255, 255]]])
        assert cross_entropy(flat, labels).item() == pytest.approx(math.log(2) / 4)
        assert cross_entropy(flat, labels, "labelled").item() == pytest.approx(math.log(2))


def test_a_constant_added_to_all_scores_changes_nothing():
    logits, _, labels = random_batch(7)
    wanted = cross_entropy(logits, labels).item()
    assert cross_entropy(logits + 13, labels).item() == pytest.approx(wanted, rel=1e-12)


def test_it_is_that_of_the_framework_up_to_the_denominator():
    logits, _, labels = random_batch(14)
    expected = F.cross_entropy(logits, labels, ignore_index=255)
    assert cross_entropy(logits, labels, "labelled").item() == pytest.approx(expected.item())


@pytest.mark.parametrize("part", ["ce", "unbiased_ce", "bce"])
def test_refused_average(part):
    with pytest.raises(InputError, match=r"`x\.average` must be one of all, labelled"):
        build_part("cssegcore.method.losses", Loss, {"part": part, "average": "some"}, "x")
