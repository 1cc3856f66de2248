import math

import pytest
import torch

from cssegcore.inversion.competition import competition
from tests.helpers.inversion_formulas import gradient, leaf, random


def softmax(scores, temperature):
    powers = [math.exp(s / temperature) for s in scores]
    return [p / math.fsum(powers) for p in powers]


def plain_competition(teacher, student, temperature=3.0):
    """Lists of scores, an image or pixel each."""

    def clamped(p):
        return min(max(p, 0.01), 0.99)

    disagreement = 0.0
    for scores in zip(teacher, student, strict=True):
        pair = zip(*(softmax(z, temperature) for z in scores), strict=True)
        for p, q in pair:
            m, p, q = clamped((p + q) / 2), clamped(p), clamped(q)
            disagreement += m * (math.log(m) - math.log(p)) / 2 + m * math.log(m / q) / 2
    return 1 - min(max(disagreement / len(teacher), 0), 1)


class TestCompetition:
    @pytest.mark.parametrize("temperature", [3.0, 1.0])
    @pytest.mark.parametrize("scale", [0.1, 2.0, 12.0])
    def test_images_against_plain_loops(self, scale, temperature):
        teacher, student = (random(4, 6, seed=s, scale=scale) for s in (1, 2))
        found = competition(teacher, student, temperature).item()
        expected = plain_competition(teacher.tolist(), student.tolist(), temperature)
        assert found == pytest.approx(expected, rel=1e-12)

    def test_pixels_against_plain_loops(self):
        teacher, student = (random(2, 5, 3, 4, seed=s, scale=5.0) for s in (1, 2))
        rows = [z.permute(0, 2, 3, 1).reshape(-1, 5).tolist() for z in (teacher, student)]
        found = competition(teacher, student).item()
        assert 0 < found < 1
        assert found == pytest.approx(plain_competition(*rows), rel=1e-12)

    def test_a_larger_map_is_no_larger_disagreement(self):
        teacher, student = (random(2, 5, 3, 4, seed=s) for s in (1, 2))
        wide = [z.repeat(1, 1, 2, 3) for z in (teacher, student)]
        assert competition(*wide).item() == pytest.approx(competition(teacher, student).item())

    def test_by_hand(self):
        # P = (3/4, 1/4), Q = (1/4, 3/4), M = (1/2, 1/2): KL(M‖P) = KL(M‖Q) = log(4/3) / 2
        teacher = torch.tensor([[3 * math.log(3), 0.0]], dtype=torch.float64)
        found = competition(teacher, teacher.flip(1)).item()
        assert found == pytest.approx(1 - math.log(4 / 3) / 2, rel=1e-12)

    def test_both_models_count_the_same(self):
        teacher, student = (random(4, 6, seed=s) for s in (1, 2))
        assert competition(teacher, student).item() == pytest.approx(
            competition(student, teacher).item(), rel=1e-14
        )

    def test_gradient(self):
        logits = [leaf(random(2, 4, 2, 1, seed=s)) for s in (1, 2)]
        assert torch.autograd.gradcheck(competition, logits)

    @pytest.mark.parametrize("shape", [(3, 5), (2, 5, 3, 3)])
    @pytest.mark.parametrize("scale", [0.0, 1.0, 1e4])
    def test_identical_logits(self, shape, scale):
        logits = leaf((scale * random(*shape)).float())
        student = leaf(logits.detach())
        found = competition(logits, student)
        assert found.item() == pytest.approx(1, abs=1e-6)
        for slope in torch.autograd.grad(found, (logits, student)):
            assert slope.abs().max() < 1e-6

    def test_opposite_and_many_classes_give_no_gradient(self):
        for teacher, student, expected in (
            (200 * torch.eye(4), -200 * torch.eye(4), 0.0),
            (random(2, 300, seed=1).float(), random(2, 300, seed=2).float(), 1.0),
        ):
            teacher.requires_grad_()
            found = competition(teacher, student)
            assert found == expected
            assert not gradient(found, teacher).any()

    def test_clamps_that_make_the_disagreement_negative_count_as_none(self):
        # 80 classes each: P and Q are 1/80 where the other is 0, M is 1/160 and clamped to 1/100
        teacher = leaf(torch.tensor([[0.0] * 80 + [-300.0] * 80]))
        found = competition(teacher, teacher.detach().flip(1))
        assert found == 1
        assert not gradient(found, teacher).any()

    def test_halves_are_counted_in_float32_also_under_autocast(self):
        teacher, student = (random(2, 5, 3, 4, seed=s).bfloat16() for s in (1, 2))
        with torch.autocast("cpu", torch.bfloat16):
            found = competition(teacher, student)
        assert found.dtype is torch.float32
        expected = competition(teacher.double(), student.double())
        assert found.item() == pytest.approx(expected.item(), rel=1e-6)

    @pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan, math.inf])
    def test_bad_temperature(self, temperature):
        with pytest.raises(ValueError, match="`temperature` must be a finite number > 0"):
            competition(torch.zeros(1, 2), torch.zeros(1, 2), temperature)
