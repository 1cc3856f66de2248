import numpy as np
import pytest
import torch

from cssegcore.method.losses.orthogonal import orthogonality


def by_hand(weights, num_old):
    """The mean of the cosines' sizes, pair by pair, and its slopes at the new rows alone."""
    lengths = np.linalg.norm(weights, axis=1)
    units = weights / lengths[:, None]
    pairs = [(i, j) for i in range(num_old, len(units)) for j in range(len(units)) if i != j]
    pairs = [(i, j) for i, j in pairs if units[i] @ units[j] != 0]
    share = (len(weights) - num_old) / len(weights) / max(1, len(pairs))
    total, slopes = 0.0, np.zeros_like(weights)
    for i, j in pairs:
        cosine = units[i] @ units[j]
        total += share * abs(cosine)
        slopes[i] += share * np.sign(cosine) * (units[j] - cosine * units[i]) / lengths[i]
    return total, slopes


@pytest.mark.parametrize("num_old", [1, 3, 4])
def test_it_is_the_formula(num_old):
    weights = np.random.default_rng(num_old).normal(size=(5, 4))
    rows = torch.tensor(weights, requires_grad=True)
    loss = orthogonality(rows, num_old)
    expected, slopes = by_hand(weights, num_old)
    assert np.isclose(loss.item(), expected)
    assert np.allclose(torch.autograd.grad(loss, rows)[0].numpy(), slopes)


def test_pairs_at_right_angles_are_left_out_of_the_mean():
    rows = torch.tensor([[1.0, 0, 0], [0, 1, 0], [1, 1, 0]])  # the last is new
    assert orthogonality(rows, 2).item() == pytest.approx(0.5**0.5 / 3)
    apart = torch.tensor([[1.0, 0, 0], [0, 1, 0], [1, 0, 1], [0, 0, 1]])
    expected, _ = by_hand(apart.double().numpy(), 2)
    assert orthogonality(apart, 2).item() == pytest.approx(expected)


def test_without_new_classes_it_is_zero():
    rows = torch.ones(3, 2, requires_grad=True)
    loss = orthogonality(rows, 3)
    assert loss.item() == 0
    assert (torch.autograd.grad(loss, rows)[0] == 0).all()
