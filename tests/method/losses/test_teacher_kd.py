import math

import numpy as np
import pytest
import torch

from cssegcore.method.losses.teacher_kd import TeacherDistillation, teacher_distillation
from cssegcore.method.losses.unbiased_kd import unbiased_distillation
from tests.helpers.loss_inputs import KNOWN, teacher_batch


def test_against_plain_loops():
    logits, teacher_scores = (t.numpy() for t in teacher_batch())
    total = 0.0
    for image, y, x in np.ndindex(2, 3, 4):
        known = KNOWN[image]
        z, t = np.exp(logits[image, :, y, x]), np.exp(teacher_scores[image, :known, y, x])
        merged = [z[0] + z[known:].sum(), *z[1:known]]
        terms = [a / t.sum() * math.log(b / z.sum()) for a, b in zip(t, merged, strict=True)]
        total -= sum(terms) / known / (2 * 3 * 4)
    assert teacher_distillation(*teacher_batch()).item() == pytest.approx(total, rel=1e-12)


def test_teachers_that_know_all_make_it_unbiased_distillation():
    logits, teacher_scores = teacher_batch()
    teacher_scores = teacher_scores.masked_fill(~teacher_scores.isfinite(), 0.3)
    assert torch.allclose(
        teacher_distillation(logits, teacher_scores),
        unbiased_distillation(logits, teacher_scores),
        rtol=1e-12,
    )


def test_no_class_that_nobody_knew_is_needed():
    logits, teacher_scores = teacher_batch()
    assert teacher_distillation(logits[:, :4], teacher_scores).isfinite()


def test_needs():
    part = TeacherDistillation
    assert (part.needs_teachers, part.needs_old, part.scores) == (True, False, "softmax")
    assert not part.is_supervised
