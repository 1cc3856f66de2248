"""The terms that ask the models which made the images."""

import math

import numpy as np
import pytest
import torch

from cssegcore.method.losses.maker_kd import MakerDistillation, maker_distillation
from cssegcore.method.losses.maker_mse import MakerMse, maker_distance
from cssegcore.method.losses.unbiased_kd import unbiased_distillation

KNOWN = (2, 4)
"""Outputs that the makers of two images know, of six."""


@pytest.fixture
def scores():
    """The network's scores and those of the makers, which know different classes."""
    rng = np.random.default_rng(0)
    logits, taught = rng.normal(0, 2, (2, 6, 3, 4)), rng.normal(0, 2, (2, 4, 3, 4))
    for image, known in enumerate(KNOWN):
        taught[image, known:] = -np.inf
    return logits, taught


def test_distillation_against_plain_loops(scores):
    logits, taught = scores
    total = 0.0
    for image, y, x in np.ndindex(2, 3, 4):
        known = KNOWN[image]
        z, t = np.exp(logits[image, :, y, x]), np.exp(taught[image, :known, y, x])
        merged = [z[0] + z[known:].sum(), *z[1:known]]
        terms = [a / t.sum() * math.log(b / z.sum()) for a, b in zip(t, merged, strict=True)]
        total -= sum(terms) / known / (2 * 3 * 4)
    found = maker_distillation(torch.from_numpy(logits), torch.from_numpy(taught))
    assert found.item() == pytest.approx(total, rel=1e-12)


def test_makers_that_know_all_make_it_unbiased_distillation(scores):
    logits, taught = (torch.from_numpy(a) for a in scores)
    taught = taught.masked_fill(~taught.isfinite(), 0.3)
    assert torch.allclose(
        maker_distillation(logits, taught), unbiased_distillation(logits, taught), rtol=1e-12
    )


def test_distance_against_plain_loops(scores):
    logits, taught = scores
    found = [
        (logits[at] - taught[at]) ** 2 for at in np.ndindex(taught.shape) if np.isfinite(taught[at])
    ]
    got = maker_distance(torch.from_numpy(logits), torch.from_numpy(taught))
    assert got.item() == pytest.approx(np.mean(found), rel=1e-12)
    assert len(found) == sum(KNOWN) * 12


@pytest.mark.parametrize("term", [maker_distillation, maker_distance])
class TestBoth:
    def test_gradient(self, scores, term):
        logits, taught = (torch.from_numpy(a) for a in scores)
        logits.requires_grad_()
        assert torch.autograd.gradcheck(lambda z: term(z, taught), logits)

    def test_no_class_that_nobody_knew_is_needed(self, scores, term):
        logits, taught = (torch.from_numpy(a)[:, :4] for a in scores)
        assert term(logits, taught).isfinite()

    def test_halves_are_computed_in_float32(self, scores, term):
        logits, taught = (torch.from_numpy(a) for a in scores)
        halves = term((100 * logits).half(), (100 * taught).half())
        assert halves.dtype == torch.float32
        assert halves.item() == pytest.approx(term(100 * logits, 100 * taught).item(), rel=1e-2)

    def test_extremes_stay_finite(self, scores, term):
        logits, taught = (1e4 * torch.from_numpy(a).float() for a in scores)
        logits.requires_grad_()
        value = term(logits, taught)
        value.backward()
        assert value.isfinite()
        assert logits.grad is not None
        assert logits.grad.isfinite().all()


def test_the_distance_leaves_what_a_maker_does_not_know_alone(scores):
    logits, taught = (torch.from_numpy(a) for a in scores)
    (gradient,) = torch.autograd.grad(maker_distance(logits.requires_grad_(), taught), logits)
    for image, known in enumerate(KNOWN):
        assert gradient[image, :known].all()
        assert not gradient[image, known:].any()


@pytest.mark.parametrize("part", [MakerDistillation, MakerMse])
def test_what_they_need(part):
    assert (part.needs_makers, part.needs_old, part.scores) == (True, False, "softmax")
    assert not part.reads_labels
