import math

import numpy as np
import pytest
import torch

from cssegcore.method.losses.bce_kd import BinaryDistillation, binary_distillation
from tests.helpers.loss_inputs import OLD, random_batch
from tests.method.losses.test_bce import plain


def sigmoid(score):
    return 1 / (1 + math.exp(-score))


@pytest.mark.parametrize("seed", range(3))
def test_against_plain_loops(seed):
    logits, old, labels = random_batch(seed)
    z, t = logits.detach().numpy(), old.numpy()
    values = [
        plain(z[b, :OLD, i, j], [sigmoid(s) for s in t[b, :, i, j]])
        for b, i, j in np.ndindex(*labels.shape)
    ]
    assert binary_distillation(logits, old).item() == pytest.approx(np.mean(values), rel=1e-12)


def test_without_the_background_output_0_takes_no_part():
    logits, old, _ = random_batch(0)
    loss = binary_distillation(logits, old, background=False)
    expected = binary_distillation(logits[:, 1:], old[:, 1:])
    assert loss.item() == pytest.approx(expected.item(), rel=1e-12)
    (grad,) = torch.autograd.grad(loss, logits)
    assert (grad[:, 0] == 0).all()
    assert (grad[:, 1:OLD] != 0).all()
    assert [BinaryDistillation(b).reads_background for b in (True, False)] == [True, False]


def test_equal_scores_by_hand():
    got = binary_distillation(torch.zeros(1, 4, 1, 1), torch.zeros(1, 3, 1, 1))
    assert got.item() == pytest.approx(3 * math.log(2))


def test_who_says_what_the_old_model_said_gets_no_gradient():
    logits, old, _ = random_batch(1)
    same = torch.cat([old, logits.detach()[:, OLD:]], 1).requires_grad_()
    (grad,) = torch.autograd.grad(binary_distillation(same, old), same)
    assert grad.abs().max() < 1e-15


def test_it_moves_no_new_output():
    logits, old, _ = random_batch(2)
    (grad,) = torch.autograd.grad(binary_distillation(logits, old), logits)
    assert (grad[:, OLD:] == 0).all()
    assert (grad[:, :OLD] != 0).all()


def test_it_compares_with_the_old_model():
    assert BinaryDistillation.needs_old
    assert not BinaryDistillation.expects_background_at_0
