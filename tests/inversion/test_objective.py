import math

import pytest
import torch

from cssegcore.inversion.objective import objective
from cssegcore.inversion.priors import image_l2, total_variation_l1, total_variation_l2
from cssegcore.inversion.settings import InversionWeights
from tests.helpers.inversion_formulas import leaf, plain_prior, random

PRIORS = [total_variation_l1, total_variation_l2, image_l2]


SHAPE = (2, 3, 5, 6)


def never():
    raise AssertionError("a term without weight was computed")


class TestObjective:
    IMAGES = random(*SHAPE)
    TERMS = tuple(torch.tensor(v, dtype=torch.float64) for v in (0.7, 3.0, 0.4))

    def test_the_sum_of_all_terms(self):
        weights = InversionWeights(2.0, 0.3, 0.5, 0.25, 0.125, 4.0)
        found = objective(weights, self.IMAGES, *self.TERMS)
        priors = [plain_prior(prior, self.IMAGES.numpy()) for prior in PRIORS]
        expected = 2 * 0.7 + 0.3 * 3 + 0.5 * priors[0] + 0.25 * priors[1] + 0.125 * priors[2] + 1.6
        assert found.total.item() == pytest.approx(expected, rel=1e-12)
        assert {name: value.item() for name, value in found.terms.items()} == pytest.approx(
            {
                "target": 0.7,
                "features": 3.0,
                "total_variation_l1": priors[0],
                "total_variation_l2": priors[1],
                "image_l2": priors[2],
                "competition": 0.4,
            },
            rel=1e-12,
        )

    def test_a_term_may_be_what_computes_it(self):
        weights = InversionWeights(competition=0.5)
        plain = objective(weights, self.IMAGES, *self.TERMS)
        lazy = objective(weights, self.IMAGES, *(lambda t=t: t for t in self.TERMS))
        assert lazy.total == plain.total
        assert lazy.terms == plain.terms

    def test_a_term_without_weight_is_not_computed(self):
        found = objective(
            InversionWeights(target=0.0, features=0.0), self.IMAGES, never, never, never
        )
        assert (found.terms["target"], found.terms["competition"]) == (0, 0)
        priors = [plain_prior(prior, self.IMAGES.numpy()) for prior in PRIORS]
        assert found.terms["total_variation_l1"].item() == pytest.approx(priors[0])
        assert found.total.item() == pytest.approx(1e-4 * priors[1] + 1e-5 * priors[2], rel=1e-12)

    def test_what_has_no_weight_moves_nothing_however_bad(self):
        images, bad = leaf(self.IMAGES), leaf(torch.tensor(math.nan))
        found = objective(InversionWeights(), images, *self.TERMS[:2], competition=bad)
        assert found.total.isfinite()
        found.total.backward()
        assert bad.grad is None
        assert images.grad.isfinite().all()

    def test_gradient(self):
        weights = InversionWeights(1.5, 1.0, 1.0, 1.0, 1.0, 1.0)

        def total(images):
            square = images.square().mean()
            return objective(weights, images, square, square.exp(), square.sin).total

        assert torch.autograd.gradcheck(total, leaf(random(1, 2, 2, 3)))

    def test_terms_hold_no_graph(self):
        found = objective(InversionWeights(), leaf(self.IMAGES), *self.TERMS)
        assert found.total.requires_grad
        assert not any(term.requires_grad for term in found.terms.values())
