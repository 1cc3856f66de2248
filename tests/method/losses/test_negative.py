import numpy as np
import pytest
import torch

from cssegcore.core.registry import build_part
from cssegcore.method.losses import Loss
from tests.helpers.loss_inputs import make_inputs, random_batch


def test_output_0_says_no_at_every_pixel():
    logits, old, labels = random_batch(0)
    term = build_part("cssegcore.method.losses", Loss, {"part": "negative"}, "losses.x")
    loss = term(make_inputs(logits, labels, old))
    scores = logits.detach().numpy()[:, 0]
    assert loss.item() == pytest.approx(np.log1p(np.exp(scores)).mean(), rel=1e-12)
    (slope,) = torch.autograd.grad(loss, logits)
    np.testing.assert_allclose(slope[:, 0], 1 / (1 + np.exp(-scores)) / labels.numel(), rtol=1e-9)
    assert (slope[:, 1:] == 0).all()
