import numpy as np
import pytest
import torch

from cssegcore.method.losses.teacher_mse import TeacherMse, teacher_distance
from tests.helpers.loss_inputs import KNOWN, teacher_batch


def test_against_plain_loops():
    logits, teacher_scores = (t.numpy() for t in teacher_batch())
    found = [
        (logits[at] - teacher_scores[at]) ** 2
        for at in np.ndindex(teacher_scores.shape)
        if np.isfinite(teacher_scores[at])
    ]
    assert teacher_distance(*teacher_batch()).item() == pytest.approx(np.mean(found), rel=1e-12)
    assert len(found) == sum(KNOWN) * 12


def test_no_class_that_nobody_knew_is_needed():
    logits, teacher_scores = teacher_batch()
    assert teacher_distance(logits[:, :4], teacher_scores).isfinite()


def test_what_a_teacher_does_not_know_is_left_alone():
    logits, teacher_scores = teacher_batch()
    value = teacher_distance(logits.requires_grad_(), teacher_scores)
    (gradient,) = torch.autograd.grad(value, logits)
    for image, known in enumerate(KNOWN):
        assert gradient[image, :known].all()
        assert not gradient[image, known:].any()


def test_needs():
    part = TeacherMse
    assert (part.needs_teachers, part.needs_old, part.scores) == (True, False, "softmax")
    assert not part.is_supervised
