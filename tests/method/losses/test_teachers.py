"""The terms that ask the models which made the images."""

import math

import numpy as np
import pytest
import torch

from cssegcore.method.losses.teacher_kd import TeacherDistillation, teacher_distillation
from cssegcore.method.losses.teacher_mse import TeacherMse, teacher_distance
from cssegcore.method.losses.unbiased_kd import unbiased_distillation

KNOWN = (2, 4)
"""Outputs that the teachers of two images know, of six."""


@pytest.fixture
def scores():
    """The network's scores and those of the teachers, which know different classes."""
    rng = np.random.default_rng(0)
    logits, teacher_scores = rng.normal(0, 2, (2, 6, 3, 4)), rng.normal(0, 2, (2, 4, 3, 4))
    for image, known in enumerate(KNOWN):
        teacher_scores[image, known:] = -np.inf
    return logits, teacher_scores


def test_distillation_against_plain_loops(scores):
    logits, teacher_scores = scores
    total = 0.0
    for image, y, x in np.ndindex(2, 3, 4):
        known = KNOWN[image]
        z, t = np.exp(logits[image, :, y, x]), np.exp(teacher_scores[image, :known, y, x])
        merged = [z[0] + z[known:].sum(), *z[1:known]]
        terms = [a / t.sum() * math.log(b / z.sum()) for a, b in zip(t, merged, strict=True)]
        total -= sum(terms) / known / (2 * 3 * 4)
    found = teacher_distillation(torch.from_numpy(logits), torch.from_numpy(teacher_scores))
    assert found.item() == pytest.approx(total, rel=1e-12)


def test_teachers_that_know_all_make_it_unbiased_distillation(scores):
    logits, teacher_scores = (torch.from_numpy(a) for a in scores)
    teacher_scores = teacher_scores.masked_fill(~teacher_scores.isfinite(), 0.3)
    assert torch.allclose(
        teacher_distillation(logits, teacher_scores),
        unbiased_distillation(logits, teacher_scores),
        rtol=1e-12,
    )


def test_distance_against_plain_loops(scores):
    logits, teacher_scores = scores
    found = [
        (logits[at] - teacher_scores[at]) ** 2
        for at in np.ndindex(teacher_scores.shape)
        if np.isfinite(teacher_scores[at])
    ]
    got = teacher_distance(torch.from_numpy(logits), torch.from_numpy(teacher_scores))
    assert got.item() == pytest.approx(np.mean(found), rel=1e-12)
    assert len(found) == sum(KNOWN) * 12


@pytest.mark.parametrize("term", [teacher_distillation, teacher_distance])
class TestBoth:
    def test_gradient(self, scores, term):
        logits, teacher_scores = (torch.from_numpy(a) for a in scores)
        logits.requires_grad_()
        assert torch.autograd.gradcheck(lambda z: term(z, teacher_scores), logits)

    def test_no_class_that_nobody_knew_is_needed(self, scores, term):
        logits, teacher_scores = (torch.from_numpy(a)[:, :4] for a in scores)
        assert term(logits, teacher_scores).isfinite()

    def test_halves_are_computed_in_float32(self, scores, term):
        logits, teacher_scores = (torch.from_numpy(a) for a in scores)
        halves = term((100 * logits).half(), (100 * teacher_scores).half())
        assert halves.dtype == torch.float32
        assert halves.item() == pytest.approx(
            term(100 * logits, 100 * teacher_scores).item(), rel=1e-2
        )

    def test_extremes_stay_finite(self, scores, term):
        logits, teacher_scores = (1e4 * torch.from_numpy(a).float() for a in scores)
        logits.requires_grad_()
        value = term(logits, teacher_scores)
        value.backward()
        assert value.isfinite()
        assert logits.grad is not None
        assert logits.grad.isfinite().all()


def test_the_distance_leaves_what_a_teacher_does_not_know_alone(scores):
    logits, teacher_scores = (torch.from_numpy(a) for a in scores)
    (gradient,) = torch.autograd.grad(
        teacher_distance(logits.requires_grad_(), teacher_scores), logits
    )
    for image, known in enumerate(KNOWN):
        assert gradient[image, :known].all()
        assert not gradient[image, known:].any()


@pytest.mark.parametrize("part", [TeacherDistillation, TeacherMse])
def test_what_they_need(part):
    assert (part.needs_teachers, part.needs_old, part.scores) == (True, False, "softmax")
    assert not part.is_supervised
