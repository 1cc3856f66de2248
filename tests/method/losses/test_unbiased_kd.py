import math

import numpy as np
import pytest
import torch

from cssegcore.core.errors import InputError
from cssegcore.core.registry import build_part
from cssegcore.method.losses import Loss
from cssegcore.method.losses.unbiased_kd import UnbiasedDistillation, unbiased_distillation
from tests.helpers.loss_inputs import ALL, OLD, make_inputs, random_batch


def plain(scores, old_scores, alpha):
    """MiB, equation of the unbiased distillation: the new outputs join the background."""
    k, total = len(old_scores), math.fsum(math.exp(s) for s in scores)
    teacher = [math.exp(alpha * s) for s in old_scores]
    teacher = [t / math.fsum(teacher) for t in teacher]
    student = [math.exp(s) / total for s in scores[:k]]
    student[0] += math.fsum(math.exp(s) / total for s in scores[k:])
    return -math.fsum(t * math.log(s) for t, s in zip(teacher, student, strict=True)) / k


@pytest.mark.parametrize("alpha", [1.0, 0.5, 2.0])
def test_against_plain_loops(alpha):
    logits, old, labels = random_batch(0)
    z, t = logits.detach().numpy(), old.numpy()
    at = np.ndindex(*labels.shape)
    values = [plain(z[b, :, i, j], t[b, :, i, j], alpha) for b, i, j in at]
    got = unbiased_distillation(logits, old, alpha)
    assert got.item() == pytest.approx(sum(values) / len(values), rel=1e-12)


class TestByHand:
    def test_four_scores(self):
        scores = torch.tensor([1.0, 0.5, -0.5, 2.0]).double()[None, :, None, None]
        old = torch.tensor([0.8, 0.1]).double()[None, :, None, None]
        assert unbiased_distillation(scores, old).item() == pytest.approx(0.382068, abs=1e-6)

    def test_equal_scores(self):
        # teacher 1/3 each; student 2/4 (background and the new class), 1/4, 1/4; mean over three
        expected = (math.log(2) + 2 * math.log(4)) / 3 / 3
        got = unbiased_distillation(torch.zeros(1, 4, 1, 1), torch.zeros(1, 3, 1, 1))
        assert got.item() == pytest.approx(expected)


class TestIdentities:
    def test_it_is_least_where_new_classes_take_a_share_of_the_background(self):
        _, old, _ = random_batch(5)
        share = old[:, :1] - math.log(ALL - OLD + 1)
        same = torch.cat([share, old[:, 1:], share.expand(-1, ALL - OLD, -1, -1)], 1)
        least = unbiased_distillation(same.requires_grad_(), old)
        teacher = old.softmax(1)
        assert least.item() == pytest.approx(-(teacher * teacher.log()).mean().item(), rel=1e-12)
        (grad,) = torch.autograd.grad(least, same)
        assert grad.abs().max() < 1e-15

    def test_it_looks_at_no_label(self):
        logits, old, labels = random_batch(6)
        term = UnbiasedDistillation()
        ignored = torch.full_like(labels, 255)
        assert torch.equal(
            term(make_inputs(logits, labels, old)), term(make_inputs(logits, ignored, old))
        )

    def test_a_constant_added_to_all_scores_changes_nothing(self):
        logits, old, _ = random_batch(7)
        wanted = unbiased_distillation(logits, old).item()
        assert unbiased_distillation(logits + 13, old).item() == pytest.approx(wanted, rel=1e-12)


class TestRefusals:
    def test_no_new_output(self):
        logits, _, _ = random_batch(13)
        with pytest.raises(ValueError, match="old model 6, new 6"):
            unbiased_distillation(logits, logits.detach())

    @pytest.mark.parametrize("part", ["kd", "unbiased_kd"])
    @pytest.mark.parametrize("alpha", [0, -1, math.inf, math.nan])
    def test_alpha(self, part, alpha):
        recipe = {"part": part, "alpha": alpha}
        with pytest.raises(InputError, match=rf"`x`: `alpha`.*got {float(alpha)}"):
            build_part("cssegcore.method.losses", Loss, recipe, "x")
