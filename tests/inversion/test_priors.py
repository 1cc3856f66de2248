import math

import pytest
import torch

from cssegcore.inversion.priors import image_l2, total_variation_l1, total_variation_l2
from tests.helpers.inversion_formulas import gradient, leaf, plain_prior, random

PRIORS = [total_variation_l1, total_variation_l2, image_l2]


SHAPE = (2, 3, 5, 6)


@pytest.mark.parametrize("prior", PRIORS)
class TestPriors:
    @pytest.mark.parametrize("seed", range(3))
    def test_against_plain_loops(self, prior, seed):
        images = random(2 + seed, 3, 4, 7 - seed, seed=seed)
        assert prior(images).item() == pytest.approx(plain_prior(prior, images.numpy()), rel=1e-12)

    def test_gradient(self, prior):
        assert torch.autograd.gradcheck(prior, leaf(random(2, 2, 3, 4)))

    @pytest.mark.parametrize("shape", [SHAPE, (1, 3, 1, 4), (1, 1, 4, 1), (1, 1, 1, 1)])
    @pytest.mark.parametrize("value", [0.0, 2.5])
    def test_constant_images(self, prior, shape, value):
        images = leaf(torch.full(shape, value))
        found = prior(images)
        slope = gradient(found, images)
        if prior is not image_l2:
            assert found == 0
            assert not slope.any()
        elif value:
            n = math.prod(shape[1:])
            assert found.item() == pytest.approx(value * math.sqrt(n))
            torch.testing.assert_close(
                slope, torch.full(shape, 1 / math.sqrt(n) / shape[0]), atol=1e-6, rtol=0
            )
        assert slope.isfinite().all()

    def test_halves_are_summed_in_float32(self, prior):
        images = random(*SHAPE).bfloat16()
        assert prior(images).dtype is torch.float32
        expected = plain_prior(prior, images.double().numpy())
        assert prior(images).item() == pytest.approx(expected, rel=1e-5)
        with torch.autocast("cpu", torch.bfloat16):
            assert prior(images.float()).item() == pytest.approx(expected, rel=1e-5)

    def test_many_pixels_keep_their_digits(self, prior):
        images = random(4, 3, 300, 300)
        assert prior(images.float()).item() == pytest.approx(prior(images).item(), rel=1e-6)


class TestPriorsByHand:
    # differences: right -3, -4 ; below -1, -2 ; up to the right 1 - 3 = -2 ; down to it 0 - 5 = -5
    IMAGE = torch.tensor([[[[0.0, 3.0], [1.0, 5.0]]]]).double()

    def test_total_variation_l1(self):
        assert total_variation_l1(self.IMAGE).item() == pytest.approx(3.5 + 1.5 + 2 + 5)

    def test_total_variation_l2(self):
        expected = 5 + math.sqrt(5) + 2 + 5
        assert total_variation_l2(self.IMAGE).item() == pytest.approx(expected)

    def test_a_batch_twice_as_large(self):
        twice = self.IMAGE.repeat(2, 1, 1, 1)
        for prior, grown in zip(PRIORS, (1, math.sqrt(2), 1), strict=True):
            assert prior(twice).item() == pytest.approx(grown * prior(self.IMAGE).item())
