import math

import numpy as np
import pytest
import torch

from cssegcore.method.losses.bce import binary_cross_entropy
from tests.helpers.loss_inputs import ALL, random_batch


def plain(scores, targets):
    """Sum over outputs of the cross-entropy of a yes or no."""
    yes = [1 / (1 + math.exp(-s)) for s in scores]
    return -math.fsum(
        t * math.log(p) + (1 - t) * math.log(1 - p) for p, t in zip(yes, targets, strict=True)
    )


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("average", ["all", "labelled"])
def test_against_plain_loops(seed, average):
    logits, _, labels = random_batch(seed)
    z, y = logits.detach().numpy(), labels.numpy()
    at = zip(*np.where(y != 255), strict=True)
    values = [plain(z[b, :, i, j], np.eye(ALL)[y[b, i, j]]) for b, i, j in at]
    got = binary_cross_entropy(logits, labels, average)
    count = y.size if average == "all" else len(values)
    assert got.item() == pytest.approx(sum(values) / count, rel=1e-12)


def label(value):
    return torch.full((1, 1, 1), value)


class TestByHand:
    FLAT = torch.zeros(1, 4, 1, 1)

    def test_equal_scores(self):
        # a yes or no at even odds costs log 2, whatever is wanted
        got = binary_cross_entropy(self.FLAT, label(1))
        assert got.item() == pytest.approx(4 * math.log(2))

    def test_gradients_of_yes_or_no(self):
        flat = self.FLAT.clone().requires_grad_()
        (grad,) = torch.autograd.grad(binary_cross_entropy(flat, label(2)), flat)
        assert grad.flatten().tolist() == [0.5, 0.5, -0.5, 0.5]

    def test_ignored_pixels_count_in_the_mean_or_not(self):
        labels = torch.tensor([[[0, 255, 255, 255]]])
        flat = torch.zeros(1, 2, 1, 4)
        assert binary_cross_entropy(flat, labels).item() == pytest.approx(2 * math.log(2))
        got = binary_cross_entropy(flat, labels, "all")
        assert got.item() == pytest.approx(2 * math.log(2) / 4)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    @pytest.mark.parametrize("sure", [15.0, 30.0, 49.0, 60.0])
    def test_a_sure_and_right_answer_is_right_to_the_last_digit_of_its_score(self, dtype, sure):
        scores = torch.full((1, 4, 1, 1), -sure, dtype=dtype)
        scores[:, 1] = sure
        got = binary_cross_entropy(scores, label(1)).item()
        digit = sure * torch.finfo(dtype).eps
        assert got == pytest.approx(4 * math.log1p(math.exp(-sure)), rel=1e-5, abs=digit)

    def test_a_sure_and_wrong_answer_keeps_its_digits(self):
        scores = torch.full((1, 4, 1, 1), 21.0, dtype=torch.float64)
        got = binary_cross_entropy(scores, label(1)).item()
        right, wrong = math.log1p(math.exp(-21)), 21 + math.log1p(math.exp(-21))
        assert got == pytest.approx(right + 3 * wrong, rel=1e-13)
