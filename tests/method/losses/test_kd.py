import math

import numpy as np
import pytest
import torch

from cssegcore.method.losses.kd import Distillation, distillation
from tests.helpers.loss_inputs import OLD, random_batch


def softmax(scores):
    total = math.fsum(math.exp(s) for s in scores)
    return [math.exp(s) / total for s in scores]


def plain(scores, old_scores, alpha):
    """LwF as MiB's baselines have it: both softmaxes over the old outputs, mean over them."""
    k = len(old_scores)
    old, new = softmax([alpha * s for s in old_scores]), softmax(scores[:k])
    return -math.fsum(p * math.log(q) for p, q in zip(old, new, strict=True)) / k


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("alpha", [1.0, 0.5, 2.0])
def test_against_plain_loops(seed, alpha):
    logits, old, labels = random_batch(seed)
    z, t = logits.detach().numpy(), old.numpy()
    at = np.ndindex(*labels.shape)
    values = [plain(z[b, :, i, j], t[b, :, i, j], alpha) for b, i, j in at]
    assert distillation(logits, old, alpha).item() == pytest.approx(np.mean(values), rel=1e-12)


def test_equal_scores_by_hand():
    # three old outputs, a third each; mean over the three
    got = distillation(torch.zeros(1, 4, 1, 1), torch.zeros(1, 3, 1, 1))
    assert got.item() == pytest.approx(math.log(3) / 3)


class TestIdentities:
    def test_who_says_what_the_old_model_said_gets_no_gradient(self):
        logits, old, _ = random_batch(1)
        same = torch.cat([old, logits.detach()[:, OLD:]], 1).requires_grad_()
        (grad,) = torch.autograd.grad(distillation(same, old), same)
        assert grad.abs().max() < 1e-15

    def test_it_moves_no_new_output(self):
        logits, old, _ = random_batch(2)
        (grad,) = torch.autograd.grad(distillation(logits, old), logits)
        assert (grad[:, OLD:] == 0).all()
        assert (grad[:, :OLD] != 0).all()

    def test_it_is_blind_to_a_constant_among_the_old_outputs(self):
        logits, old, _ = random_batch(3)
        shifted = torch.cat([logits[:, :OLD] + 13, logits[:, OLD:]], 1)
        assert torch.allclose(distillation(shifted, old), distillation(logits, old), rtol=1e-12)

    def test_one_old_output(self):
        logits, _, _ = random_batch(6)
        assert distillation(logits, torch.zeros(2, 1, 4, 5, dtype=torch.float64)).item() == 0


def test_it_compares_with_the_old_model():
    assert Distillation.needs_old
    assert not Distillation.expects_background_at_0
