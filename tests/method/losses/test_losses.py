import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from cssegcore.core.errors import InputError
from cssegcore.core.registry import build_part
from cssegcore.method.losses import Loss
from cssegcore.method.losses.bce import BinaryCrossEntropy
from cssegcore.method.losses.bce_kd import BinaryDistillation
from cssegcore.method.losses.ce import CrossEntropy, cross_entropy
from cssegcore.method.losses.kd import Distillation
from cssegcore.method.losses.unbiased_ce import UnbiasedCrossEntropy, unbiased_cross_entropy
from cssegcore.method.losses.unbiased_kd import UnbiasedDistillation, unbiased_distillation
from tests.helpers.loss_inputs import ALL, OLD, make_inputs, random_batch


def pixels(*shape):
    return np.ndindex(shape)


def log_sum_exp(values):
    return math.log(math.fsum(math.exp(v) for v in values))


def plain_ce(scores, label):
    """Minus the log of the label's softmax."""
    return log_sum_exp(scores) - scores[label]


def plain_unbiased_ce(scores, label, num_old):
    """MiB, equation of the unbiased cross-entropy: p(background) sums all old outputs."""
    total = math.fsum(math.exp(s) for s in scores)
    if label < num_old:
        return -math.log(math.fsum(math.exp(s) for s in scores[:num_old]) / total)
    return -math.log(math.exp(scores[label]) / total)


def plain_unbiased_kd(scores, old_scores, alpha):
    """MiB, equation of the unbiased distillation: the new outputs join the background."""
    k, total = len(old_scores), math.fsum(math.exp(s) for s in scores)
    teacher = [math.exp(alpha * s) for s in old_scores]
    teacher = [t / math.fsum(teacher) for t in teacher]
    student = [math.exp(s) / total for s in scores[:k]]
    student[0] += math.fsum(math.exp(s) / total for s in scores[k:])
    return -math.fsum(t * math.log(s) for t, s in zip(teacher, student, strict=True)) / k


def averaged(values, labels, average):
    return sum(values) / (labels.numel() if average == "all" else (labels != 255).sum().item())


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("average", ["all", "labelled"])
class TestAgainstPlainLoops:
    def test_cross_entropy(self, seed, average):
        logits, _, labels = random_batch(seed)
        z, y = logits.detach().numpy(), labels.numpy()
        at = [p for p in pixels(*y.shape) if y[p] != 255]
        values = [plain_ce(z[b, :, i, j], y[b, i, j]) for b, i, j in at]
        got = cross_entropy(logits, labels, average)
        assert got.item() == pytest.approx(averaged(values, labels, average), rel=1e-12)

    def test_unbiased_cross_entropy(self, seed, average):
        logits, _, labels = random_batch(seed)
        z, y = logits.detach().numpy(), labels.numpy()
        at = [p for p in pixels(*y.shape) if y[p] != 255]
        values = [plain_unbiased_ce(z[b, :, i, j], y[b, i, j], OLD) for b, i, j in at]
        got = unbiased_cross_entropy(logits, labels, OLD, average)
        assert got.item() == pytest.approx(averaged(values, labels, average), rel=1e-12)


@pytest.mark.parametrize("alpha", [1.0, 0.5, 2.0])
def test_unbiased_distillation_against_a_plain_loop(alpha):
    logits, old, labels = random_batch(0)
    z, t = logits.detach().numpy(), old.numpy()
    values = [
        plain_unbiased_kd(z[b, :, i, j], t[b, :, i, j], alpha) for b, i, j in pixels(*labels.shape)
    ]
    got = unbiased_distillation(logits, old, alpha)
    assert got.item() == pytest.approx(sum(values) / len(values), rel=1e-12)


class TestByHand:
    SCORES = torch.tensor([1.0, 0.5, -0.5, 2.0]).double()[None, :, None, None]

    @pytest.mark.parametrize(
        ("label", "expected"), [(0, 1.040598), (1, 1.040598), (2, 3.014675), (3, 0.514675)]
    )
    def test_unbiased_cross_entropy(self, label, expected):
        got = unbiased_cross_entropy(self.SCORES, torch.tensor([[[label]]]), 2)
        assert got.item() == pytest.approx(expected, abs=1e-6)

    def test_unbiased_distillation(self):
        old = torch.tensor([0.8, 0.1]).double()[None, :, None, None]
        assert unbiased_distillation(self.SCORES, old).item() == pytest.approx(0.382068, abs=1e-6)

    def test_equal_scores(self):
        flat = torch.zeros(1, 4, 1, 1)
        label = torch.zeros(1, 1, 1, dtype=torch.int64)
        assert cross_entropy(flat, label).item() == pytest.approx(math.log(4))
        # three of four outputs are old: P(background) = 3/4
        assert unbiased_cross_entropy(flat, label, 3).item() == pytest.approx(math.log(4 / 3))
        # teacher 1/3 each; student 2/4 (background and the new class), 1/4, 1/4; mean over three
        expected = (math.log(2) + 2 * math.log(4)) / 3 / 3
        got = unbiased_distillation(flat, torch.zeros(1, 3, 1, 1))
        assert got.item() == pytest.approx(expected)

    def test_ignored_pixels_count_in_the_mean_or_not(self):
        flat = torch.zeros(1, 2, 1, 4)
        labels = torch.tensor([[[0, 255, 255, 255]]])
        assert cross_entropy(flat, labels).item() == pytest.approx(math.log(2) / 4)
        assert cross_entropy(flat, labels, "labelled").item() == pytest.approx(math.log(2))


class TestIdentities:
    def test_with_one_old_output_unbiased_cross_entropy_is_cross_entropy(self):
        logits, _, labels = random_batch(3)
        plain, unbiased = cross_entropy(logits, labels), unbiased_cross_entropy(logits, labels, 1)
        assert torch.allclose(plain, unbiased, rtol=1e-14)
        grads = [torch.autograd.grad(loss, logits)[0] for loss in (plain, unbiased)]
        assert torch.allclose(*grads, rtol=1e-12)

    def test_old_labels_are_background_to_unbiased_cross_entropy(self):
        logits, _, labels = random_batch(4)
        as_background = torch.where(labels < OLD, 0, labels)
        got = unbiased_cross_entropy(logits, labels, OLD)
        assert torch.equal(got, unbiased_cross_entropy(logits, as_background, OLD))
        assert not torch.equal(cross_entropy(logits, labels), cross_entropy(logits, as_background))

    def test_distillation_is_least_where_new_classes_take_a_share_of_the_background(self):
        _, old, _ = random_batch(5)
        share = old[:, :1] - math.log(ALL - OLD + 1)
        same = torch.cat([share, old[:, 1:], share.expand(-1, ALL - OLD, -1, -1)], 1)
        least = unbiased_distillation(same.requires_grad_(), old)
        teacher = old.softmax(1)
        assert least.item() == pytest.approx(-(teacher * teacher.log()).mean().item(), rel=1e-12)
        (grad,) = torch.autograd.grad(least, same)
        assert grad.abs().max() < 1e-15

    def test_distillation_looks_at_no_label(self):
        logits, old, labels = random_batch(6)
        term = UnbiasedDistillation()
        ignored = torch.full_like(labels, 255)
        assert torch.equal(
            term(make_inputs(logits, labels, old)), term(make_inputs(logits, ignored, old))
        )

    def test_a_constant_added_to_all_scores_changes_nothing(self):
        logits, old, labels = random_batch(7)
        for loss in (
            lambda z: cross_entropy(z, labels),
            lambda z: unbiased_cross_entropy(z, labels, OLD),
            lambda z: unbiased_distillation(z, old),
        ):
            assert loss(logits + 13).item() == pytest.approx(loss(logits).item(), rel=1e-12)


TERMS = {
    "ce": CrossEntropy(),
    "unbiased_ce": UnbiasedCrossEntropy(),
    "unbiased_kd": UnbiasedDistillation(),
    "kd": Distillation(),
    "bce": BinaryCrossEntropy(),
    "bce_kd": BinaryDistillation(),
}
PARTS = [name for name in TERMS if "," not in name]
AVERAGED = ["ce", "unbiased_ce", "bce"]


@pytest.mark.parametrize("name", AVERAGED)
@pytest.mark.parametrize("average", ["all", "labelled"])
def test_what_stands_in_ignored_pixels_does_not_matter(name, average):
    term = type(TERMS[name])(average=average)
    logits, old, labels = random_batch(8)
    poisoned = logits.detach().clone()
    poisoned[(labels == 255)[:, None].expand_as(logits)] = 1e4
    poisoned.requires_grad_()
    clean = term(make_inputs(logits, labels, old))
    assert torch.equal(term(make_inputs(poisoned, labels, old)), clean)
    (grad,) = torch.autograd.grad(term(make_inputs(poisoned, labels, old)), poisoned)
    assert (grad[(labels == 255)[:, None].expand_as(grad)] == 0).all()
    assert (grad[(labels != 255)[:, None].expand_as(grad)] != 0).any()


@pytest.mark.parametrize("name", TERMS)
def test_gradients_fit_the_values(name):
    logits, old, labels = random_batch(9, h=2, w=2)
    assert torch.autograd.gradcheck(
        lambda z: TERMS[name](make_inputs(z, labels, old)), logits, raise_exception=True
    )


class TestEdges:
    @pytest.mark.parametrize("name", TERMS)
    @pytest.mark.parametrize(
        "label",
        [
            pytest.param(255, id="all ignored"),
            pytest.param(OLD, id="no background"),
            pytest.param(0, id="no new class"),
            pytest.param(1, id="an old class"),
        ],
    )
    @pytest.mark.parametrize("scale", [1.0, 1e4])
    @pytest.mark.parametrize(("b", "new"), [(2, ALL - OLD), (1, 1)])
    @pytest.mark.parametrize("amp", [False, True])
    def test_value_and_gradient_are_finite(self, name, label, scale, b, new, amp):
        rng = torch.Generator().manual_seed(0)
        logits = scale * torch.randn(b, OLD + new, 3, 4, generator=rng)
        old = scale * torch.randn(b, OLD, 3, 4, generator=rng)
        labels = torch.full((b, 3, 4), label)
        logits.requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=amp):
            value = TERMS[name](make_inputs(logits, labels, old))
        (grad,) = torch.autograd.grad(value, logits)
        assert value.dtype == torch.float32
        assert value.isfinite()
        assert value >= 0
        assert grad.isfinite().all()

    @pytest.mark.parametrize("name", TERMS)
    def test_autocast_costs_no_digits(self, name):
        logits, old, labels = (t.float() if t.is_floating_point() else t for t in random_batch(10))
        seen = make_inputs(logits, labels, old)
        with torch.autocast("cpu", torch.bfloat16):
            reduced = TERMS[name](seen)
        assert reduced.item() == pytest.approx(TERMS[name](seen).item(), rel=1e-6)

    @pytest.mark.parametrize("name", AVERAGED)
    @pytest.mark.parametrize("average", ["all", "labelled"])
    def test_nothing_labelled_is_nothing_to_learn(self, name, average):
        logits, old, _ = random_batch(11)
        labels = torch.full((2, 4, 5), 255)
        value = type(TERMS[name])(average=average)(make_inputs(logits, labels, old))
        (grad,) = torch.autograd.grad(value, logits)
        assert value == 0
        assert (grad == 0).all()


class TestRefusals:
    @pytest.mark.parametrize("num_old", [0, 7])
    def test_number_of_old_outputs(self, num_old):
        logits, _, labels = random_batch(12)
        with pytest.raises(ValueError, match=rf"`num_old`.*\[1, 6\], got {num_old}"):
            unbiased_cross_entropy(logits, labels, num_old)

    def test_distillation_without_a_new_output(self):
        logits, _, _ = random_batch(13)
        with pytest.raises(ValueError, match="old model 6, new 6"):
            unbiased_distillation(logits, logits.detach())

    @pytest.mark.parametrize("part", PARTS)
    @pytest.mark.parametrize("weight", [-1, math.inf, math.nan])
    def test_weight(self, part, weight):
        recipe = {"part": part, "weight": weight}
        with pytest.raises(InputError, match=rf"`x`: `weight`.*got {float(weight)}"):
            build_part("cssegcore.method.losses", Loss, recipe, "x")

    @pytest.mark.parametrize("part", ["kd", "unbiased_kd"])
    @pytest.mark.parametrize("alpha", [0, -1, math.inf, math.nan])
    def test_alpha(self, part, alpha):
        recipe = {"part": part, "alpha": alpha}
        with pytest.raises(InputError, match=rf"`x`: `alpha`.*got {float(alpha)}"):
            build_part("cssegcore.method.losses", Loss, recipe, "x")

    @pytest.mark.parametrize("part", AVERAGED)
    def test_average(self, part):
        with pytest.raises(InputError, match=r"`x\.average` must be one of all, labelled"):
            build_part("cssegcore.method.losses", Loss, {"part": part, "average": "some"}, "x")


def test_cross_entropy_is_that_of_the_framework_up_to_the_denominator():
    logits, _, labels = random_batch(14)
    expected = F.cross_entropy(logits, labels, ignore_index=255)
    assert cross_entropy(logits, labels, "labelled").item() == pytest.approx(expected.item())
