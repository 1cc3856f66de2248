import math

import numpy as np
import pytest
import torch

from cssegcore.method.losses.feature_mse import FeatureMSE, feature_mse
from tests.helpers.loss_inputs import make_inputs, random_batch


@pytest.mark.parametrize("seed", range(3))
def test_against_plain_loops(seed):
    rng = np.random.default_rng(seed)
    new, old = rng.standard_normal((2, 2, 4, 3, 5))
    got = feature_mse(torch.tensor(new), torch.tensor(old))
    values = [(new[at] - old[at]) ** 2 for at in np.ndindex(*new.shape)]
    assert got.item() == pytest.approx(math.fsum(values) / len(values), rel=1e-12)


def test_by_hand():
    new = torch.tensor([1.0, 2.0, 3.0, 4.0]).reshape(1, 4, 1, 1)
    # the squares 1, 4, 9 and 16: 30 over four elements
    assert feature_mse(new, torch.zeros(1, 4, 1, 1)).item() == 7.5


def test_the_term_reads_the_backbone_and_no_logits():
    logits, old, labels = random_batch(7)
    rng = torch.Generator().manual_seed(0)
    body, old_body = torch.randn(2, 2, 4, 3, 5, generator=rng).double()
    body.requires_grad_()
    value = FeatureMSE()(make_inputs(logits, labels, old, last_stage=body, old_body=old_body))
    assert torch.equal(value, feature_mse(body, old_body))
    assert torch.autograd.grad(value, logits, allow_unused=True, retain_graph=True) == (None,)
    (grad,) = torch.autograd.grad(value, body)
    assert torch.allclose(grad, 2 * (body - old_body).detach() / body.numel())


@pytest.mark.parametrize("amp", [False, True])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_identical_features(amp, dtype):
    body = torch.randn(2, 4, 3, 5).to(dtype).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=amp):
        value = feature_mse(body, body.detach())
    (grad,) = torch.autograd.grad(value, body)
    assert value == 0
    assert (grad == 0).all()


def test_it_compares_with_the_old_model():
    assert FeatureMSE.needs_old
    assert not FeatureMSE.expects_background_at_0
