import math

import numpy as np
import pytest
import torch

from cssegcore.method.losses.ce import cross_entropy
from cssegcore.method.losses.unbiased_ce import unbiased_cross_entropy
from tests.helpers.loss_inputs import OLD, random_batch


def plain(scores, label, num_old):
    """MiB, equation of the unbiased cross-entropy: p(background) sums all old outputs."""
    total = math.fsum(math.exp(s) for s in scores)
    if label < num_old:
        return -math.log(math.fsum(math.exp(s) for s in scores[:num_old]) / total)
    return -math.log(math.exp(scores[label]) / total)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("average", ["all", "labelled"])
def test_against_plain_loops(seed, average):
    logits, _, labels = random_batch(seed)
    z, y = logits.detach().numpy(), labels.numpy()
    at = zip(*np.where(y != 255), strict=True)
    values = [plain(z[b, :, i, j], y[b, i, j], OLD) for b, i, j in at]
    got = unbiased_cross_entropy(logits, labels, OLD, average)
    count = y.size if average == "all" else len(values)
    assert got.item() == pytest.approx(sum(values) / count, rel=1e-12)


class TestByHand:
    @pytest.mark.parametrize(
        ("label", "expected"), [(0, 1.040598), (1, 1.040598), (2, 3.014675), (3, 0.514675)]
    )
    def test_four_scores(self, label, expected):
        scores = torch.tensor([1.0, 0.5, -0.5, 2.0]).double()[None, :, None, None]
        got = unbiased_cross_entropy(scores, torch.tensor([[[label]]]), 2)
        assert got.item() == pytest.approx(expected, abs=1e-6)

    def test_equal_scores(self):
        label = torch.zeros(1, 1, 1, dtype=torch.int64)
        # three of four outputs are old: P(background) = 3/4
        got = unbiased_cross_entropy(torch.zeros(1, 4, 1, 1), label, 3)
        assert got.item() == pytest.approx(math.log(4 / 3))


class TestIdentities:
    def test_with_one_old_output_it_is_cross_entropy(self):
        logits, _, labels = random_batch(3)
        plain, unbiased = cross_entropy(logits, labels), unbiased_cross_entropy(logits, labels, 1)
        assert torch.allclose(plain, unbiased, rtol=1e-14)
        grads = [torch.autograd.grad(loss, logits)[0] for loss in (plain, unbiased)]
        assert torch.allclose(*grads, rtol=1e-12)

    def test_old_labels_are_background(self):
        logits, _, labels = random_batch(4)
        as_background = torch.where(labels < OLD, 0, labels)
        got = unbiased_cross_entropy(logits, labels, OLD)
        assert torch.equal(got, unbiased_cross_entropy(logits, as_background, OLD))
        assert not torch.equal(cross_entropy(logits, labels), cross_entropy(logits, as_background))

    def test_a_constant_added_to_all_scores_changes_nothing(self):
        logits, _, labels = random_batch(7)
        wanted = unbiased_cross_entropy(logits, labels, OLD).item()
        got = unbiased_cross_entropy(logits + 13, labels, OLD).item()
        assert got == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize("num_old", [0, 7])
def test_refused_number_of_old_outputs(num_old):
    logits, _, labels = random_batch(12)
    with pytest.raises(ValueError, match=rf"`num_old`.*\[1, 6\], got {num_old}"):
        unbiased_cross_entropy(logits, labels, num_old)
