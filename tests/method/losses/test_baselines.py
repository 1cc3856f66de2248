import math

import numpy as np
import pytest
import torch

from cssegcore.core.registry import build_part
from cssegcore.method.losses import Loss
from cssegcore.method.losses.bce import BinaryCrossEntropy, binary_cross_entropy
from cssegcore.method.losses.bce_kd import BinaryDistillation, binary_distillation
from cssegcore.method.losses.bce_mixed import MixedCrossEntropy, mixed_cross_entropy
from cssegcore.method.losses.feature_mse import FeatureMSE, feature_mse
from cssegcore.method.losses.kd import Distillation, distillation
from tests.helpers.loss_inputs import ALL, OLD, make_inputs, random_batch

HALVES = {
    "kd": Distillation(),
    "bce": BinaryCrossEntropy(),
    "bce_kd": BinaryDistillation(),
    "bce_mixed": MixedCrossEntropy(),
    "bce_mixed, background annotated": MixedCrossEntropy(background="annotated"),
}


def softmax(scores):
    total = math.fsum(math.exp(s) for s in scores)
    return [math.exp(s) / total for s in scores]


def sigmoid(score):
    return 1 / (1 + math.exp(-score))


def plain_kd(scores, old_scores, alpha):
    """LwF as MiB's baselines have it: both softmaxes over the old outputs, mean over them."""
    k = len(old_scores)
    old, new = softmax([alpha * s for s in old_scores]), softmax(scores[:k])
    return -math.fsum(p * math.log(q) for p, q in zip(old, new, strict=True)) / k


def plain_bce(scores, targets):
    """Sum over outputs of the cross-entropy of a yes or no."""
    return -math.fsum(
        t * math.log(sigmoid(s)) + (1 - t) * math.log(1 - sigmoid(s))
        for s, t in zip(scores, targets, strict=True)
    )


def mixed_targets(old_scores, label, background):
    """What each output is to answer where old ones answer as the old model, new ones as labelled"""
    targets = [sigmoid(s) for s in old_scores] + [0.0] * (ALL - OLD)
    if background == "annotated":
        targets[0] = float(label == 0)
    if OLD <= label < ALL:
        targets[label] = 1.0
    return targets


def by_pixel(formula, labels):
    return [formula(b, i, j) for b, i, j in np.ndindex(*labels.shape)]


@pytest.mark.parametrize("seed", range(3))
class TestAgainstPlainLoops:
    @pytest.mark.parametrize("alpha", [1.0, 0.5, 2.0])
    def test_distillation(self, seed, alpha):
        logits, old, labels = random_batch(seed)
        z, t = logits.detach().numpy(), old.numpy()
        values = by_pixel(lambda b, i, j: plain_kd(z[b, :, i, j], t[b, :, i, j], alpha), labels)
        got = distillation(logits, old, alpha)
        assert got.item() == pytest.approx(np.mean(values), rel=1e-12)

    @pytest.mark.parametrize("average", ["all", "labelled"])
    def test_binary_cross_entropy(self, seed, average):
        logits, _, labels = random_batch(seed)
        z, y = logits.detach().numpy(), labels.numpy()
        at = [p for p in np.ndindex(*y.shape) if y[p] != 255]
        values = [plain_bce(z[b, :, i, j], np.eye(ALL)[y[b, i, j]]) for b, i, j in at]
        got = binary_cross_entropy(logits, labels, average)
        count = y.size if average == "all" else len(at)
        assert got.item() == pytest.approx(sum(values) / count, rel=1e-12)

    def test_binary_distillation(self, seed):
        logits, old, labels = random_batch(seed)
        z, t = logits.detach().numpy(), old.numpy()
        values = by_pixel(
            lambda b, i, j: plain_bce(z[b, :OLD, i, j], [sigmoid(s) for s in t[b, :, i, j]]), labels
        )
        got = binary_distillation(logits, old)
        assert got.item() == pytest.approx(np.mean(values), rel=1e-12)

    @pytest.mark.parametrize("background", ["old", "annotated"])
    def test_mixed_cross_entropy(self, seed, background):
        logits, old, labels = random_batch(seed)
        z, t, y = logits.detach().numpy(), old.numpy(), labels.numpy()
        values = by_pixel(
            lambda b, i, j: plain_bce(
                z[b, :, i, j], mixed_targets(t[b, :, i, j], y[b, i, j], background)
            ),
            labels,
        )
        got = mixed_cross_entropy(logits, old, labels, background)
        assert got.item() == pytest.approx(np.mean(values), rel=1e-12)

    def test_feature_mse(self, seed):
        rng = np.random.default_rng(seed)
        new, old = rng.standard_normal((2, 2, 4, 3, 5))
        got = feature_mse(torch.tensor(new), torch.tensor(old))
        values = [(new[at] - old[at]) ** 2 for at in np.ndindex(*new.shape)]
        assert got.item() == pytest.approx(math.fsum(values) / len(values), rel=1e-12)


class TestByHand:
    FLAT = torch.zeros(1, 4, 1, 1)
    OLD_FLAT = torch.zeros(1, 3, 1, 1)

    def label(self, value):
        return torch.full((1, 1, 1), value)

    def test_equal_scores(self):
        # three old outputs, a third each; mean over the three
        assert distillation(self.FLAT, self.OLD_FLAT).item() == pytest.approx(math.log(3) / 3)
        # a yes or no at even odds costs log 2, whatever is wanted
        bce = binary_cross_entropy(self.FLAT, self.label(1))
        assert bce.item() == pytest.approx(4 * math.log(2))
        kd = binary_distillation(self.FLAT, self.OLD_FLAT)
        assert kd.item() == pytest.approx(3 * math.log(2))
        for background in ("old", "annotated"):
            mixed = mixed_cross_entropy(self.FLAT, self.OLD_FLAT, self.label(3), background)
            assert mixed.item() == pytest.approx(4 * math.log(2))

    def test_gradients_of_yes_or_no(self):
        flat = self.FLAT.clone().requires_grad_()
        (grad,) = torch.autograd.grad(binary_cross_entropy(flat, self.label(2)), flat)
        assert grad.flatten().tolist() == [0.5, 0.5, -0.5, 0.5]
        mixed = mixed_cross_entropy(flat, self.OLD_FLAT, self.label(0), "annotated")
        (grad,) = torch.autograd.grad(mixed, flat)
        assert grad.flatten().tolist() == [-0.5, 0.0, 0.0, 0.5]
        mixed = mixed_cross_entropy(flat, self.OLD_FLAT, self.label(255), "annotated")
        (grad,) = torch.autograd.grad(mixed, flat)
        assert grad.flatten().tolist() == [0.5, 0.0, 0.0, 0.5]

    def test_ignored_pixels_count_in_the_mean_or_not(self):
        labels = torch.tensor([[[0, 255, 255, 255]]])
        flat = torch.zeros(1, 2, 1, 4)
        assert binary_cross_entropy(flat, labels).item() == pytest.approx(2 * math.log(2))
        got = binary_cross_entropy(flat, labels, "all")
        assert got.item() == pytest.approx(2 * math.log(2) / 4)

    def test_mean_squared_difference(self):
        new = torch.tensor([1.0, 2.0, 3.0, 4.0]).reshape(1, 4, 1, 1)
        # the squares 1, 4, 9 and 16: 30 over four elements
        assert feature_mse(new, torch.zeros(1, 4, 1, 1)).item() == 7.5

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    @pytest.mark.parametrize("sure", [15.0, 30.0, 49.0, 60.0])
    def test_a_sure_and_right_answer_is_right_to_the_last_digit_of_its_score(self, dtype, sure):
        scores = torch.full((1, 4, 1, 1), -sure, dtype=dtype)
        scores[:, 1] = sure
        got = binary_cross_entropy(scores, self.label(1)).item()
        digit = sure * torch.finfo(dtype).eps
        assert got == pytest.approx(4 * math.log1p(math.exp(-sure)), rel=1e-5, abs=digit)

    def test_a_sure_and_wrong_answer_keeps_its_digits(self):
        scores = torch.full((1, 4, 1, 1), 21.0, dtype=torch.float64)
        got = binary_cross_entropy(scores, self.label(1)).item()
        right, wrong = math.log1p(math.exp(-21)), 21 + math.log1p(math.exp(-21))
        assert got == pytest.approx(right + 3 * wrong, rel=1e-13)


class TestIdentities:
    def test_who_says_what_the_old_model_said_gets_no_gradient(self):
        logits, old, _ = random_batch(1)
        same = torch.cat([old, logits.detach()[:, OLD:]], 1).requires_grad_()
        for loss in (distillation, binary_distillation):
            (grad,) = torch.autograd.grad(loss(same, old), same)
            assert grad.abs().max() < 1e-15

    def test_distillation_moves_no_new_output(self):
        logits, old, _ = random_batch(2)
        for loss in (distillation, binary_distillation):
            (grad,) = torch.autograd.grad(loss(logits, old), logits)
            assert (grad[:, OLD:] == 0).all()
            assert (grad[:, :OLD] != 0).all()

    def test_distillation_is_blind_to_a_constant_among_the_old_outputs(self):
        logits, old, _ = random_batch(3)
        shifted = torch.cat([logits[:, :OLD] + 13, logits[:, OLD:]], 1)
        assert torch.allclose(distillation(shifted, old), distillation(logits, old), rtol=1e-12)

    @pytest.mark.parametrize("background", ["old", "annotated"])
    def test_a_sure_old_model_that_says_the_labels_is_as_good_as_they_are(self, background):
        logits, _, labels = random_batch(4)
        labels = torch.where(labels == 255, 1, labels)
        yes = torch.nn.functional.one_hot(labels, ALL).movedim(-1, 1)[:, :OLD]
        old = torch.where(yes == 1, 1e3, -1e3).double()
        got = mixed_cross_entropy(logits, old, labels, background)
        assert torch.allclose(got, binary_cross_entropy(logits, labels), rtol=1e-12)

    def test_old_labels_are_not_seen_where_the_old_model_answers(self):
        logits, old, labels = random_batch(5)
        hidden = torch.where(labels < OLD, 255, labels)
        for seen in (labels, hidden):
            got = mixed_cross_entropy(logits, old, seen)
            assert torch.equal(got, mixed_cross_entropy(logits, old, labels))
        annotated = mixed_cross_entropy(logits, old, labels, "annotated")
        assert not torch.equal(mixed_cross_entropy(logits, old, hidden, "annotated"), annotated)

    def test_one_old_output(self):
        logits, _, labels = random_batch(6)
        old = torch.zeros(2, 1, 4, 5, dtype=torch.float64)
        assert distillation(logits, old).item() == 0
        annotated = mixed_cross_entropy(logits, old, labels, "annotated")
        known = labels != 255
        hard = torch.nn.functional.one_hot(torch.where(known, labels, 0), ALL).movedim(-1, 1)
        expected = torch.nn.functional.binary_cross_entropy_with_logits(
            logits, (hard * known[:, None]).double()
        )
        assert torch.allclose(annotated, ALL * expected, rtol=1e-12)


class TestFeatures:
    def test_the_term_reads_the_backbone_and_no_logits(self):
        logits, old, labels = random_batch(7)
        rng = torch.Generator().manual_seed(0)
        body, old_body = torch.randn(2, 2, 4, 3, 5, generator=rng).double()
        body.requires_grad_()
        value = FeatureMSE()(make_inputs(logits, labels, old, last_stage=body, old_body=old_body))
        assert torch.equal(value, feature_mse(body, old_body))
        assert torch.autograd.grad(value, logits, allow_unused=True, retain_graph=True) == (None,)
        (grad,) = torch.autograd.grad(value, body)
        assert torch.allclose(grad, 2 * (body - old_body).detach() / body.numel())

    def test_gradients_fit_the_values(self):
        body = torch.randn(1, 2, 3, 2, dtype=torch.float64, requires_grad=True)
        old = torch.randn(1, 2, 3, 2, dtype=torch.float64)
        assert torch.autograd.gradcheck(lambda x: feature_mse(x, old), body)

    @pytest.mark.parametrize("amp", [False, True])
    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
    def test_identical_features(self, amp, dtype):
        body = torch.randn(2, 4, 3, 5).to(dtype).requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=amp):
            value = feature_mse(body, body.detach())
        (grad,) = torch.autograd.grad(value, body)
        assert value == 0
        assert value.dtype == torch.float32
        assert (grad == 0).all()


@pytest.mark.parametrize("name", HALVES)
def test_halves_are_widened_before_anything_is_computed(name):
    logits, old, labels = (t.detach() for t in random_batch(8))
    halves = [t.bfloat16() for t in (logits, old)]
    value, wide = (
        HALVES[name](make_inputs(z, labels, t)) for z, t in (halves, [h.double() for h in halves])
    )
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(wide.item(), rel=1e-6)


def test_mixed_targets_need_a_new_output():
    logits, _, labels = random_batch(9)
    with pytest.raises(ValueError, match="old model 6, new 6"):
        mixed_cross_entropy(logits, logits.detach(), labels)


@pytest.mark.parametrize("part", ["kd", "bce_kd", "bce_mixed", "feature_mse"])
def test_what_compares_with_the_old_model_says_so(part):
    term = build_part("cssegcore.method.losses", Loss, {"part": part}, "x")
    assert term.needs_old
    assert not term.expects_background_at_0
