import numpy as np
import pytest
import torch

from cssegcore.core.errors import InputError
from cssegcore.core.registry import build_part
from cssegcore.method._class_features import class_distances
from cssegcore.method.losses import Loss
from cssegcore.method.losses.attraction import Attraction, attraction
from tests.helpers.class_scenes import (
    Golden,
    arrays,
    assert_void_is_nothing,
    gathered,
    ids,
    mean_square,
    passed,
    scene,
    two_pixels,
)


def plain_attraction(features, labels, prototypes, average, gather):
    loss, present = 0.0, ids(labels, 255)
    for c in present:
        f = gathered(features, labels, c, gather, "n p")
        loss += np.mean([mean_square(v, prototypes[c]) for v in f])
        if average == "nested":
            loss /= len(present)
    return loss / (1 if average == "nested" else max(len(present), 1))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("gather", ["intended", "released"])
@pytest.mark.parametrize("average", ["mean", "nested"])
def test_against_plain_loops(seed, gather, average):
    given = scene(seed)
    expected = plain_attraction(*arrays(*given), average, gather)
    assert attraction(*given, average, gather).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("gather", "average", "value"),
    [("released", "nested", 0.14384958), ("intended", "mean", 0.20984756)],
)
def test_golden_values(gather, average, value):
    got = attraction(Golden.FEATURES, Golden.SMALL, Golden.PROTOTYPES, average, gather)
    assert got.item() == pytest.approx(value, abs=1e-8)


def test_two_classes_of_a_pixel_each_by_hand():
    # class 0: mean of 1 and 1; class 1: mean of 4 and 9
    assert attraction(*two_pixels()).item() == pytest.approx((1 + 6.5) / 2)
    assert attraction(*two_pixels(), "nested").item() == pytest.approx(1 / 4 + 6.5 / 2)


class TestIdentities:
    def test_features_at_their_prototypes_are_at_rest(self):
        _, labels, prototypes = scene(7)
        features = prototypes[labels % 255].movedim(-1, 1).contiguous().requires_grad_()
        loss = attraction(features, labels, prototypes)
        (grad,) = torch.autograd.grad(loss, features)
        assert loss < 1e-30
        assert grad.abs().max() < 1e-15

    def test_what_stands_in_ignored_pixels_does_not_matter(self):
        assert_void_is_nothing(attraction)

    def test_no_gradient_reaches_the_prototypes(self):
        features, labels, prototypes = scene(10)
        prototypes.requires_grad_()
        attraction(features, labels, prototypes).backward()
        assert prototypes.grad is None

    def test_it_is_the_mean_of_the_classes_distances(self):
        features, labels, prototypes = scene(11)
        distances, counts = class_distances(features, labels, prototypes)
        expected = distances[counts > 0].mean()
        assert attraction(features, labels, prototypes).item() == pytest.approx(expected.item())


def test_the_term_is_the_function_at_the_size_of_the_features():
    features, labels, prototypes = scene(13)
    batch = passed(features, labels, prototypes)
    assert Attraction()(batch) == attraction(features, labels, prototypes)


def test_refused_average():
    recipe = {"part": "attraction", "average": "pixels"}
    with pytest.raises(InputError, match=r"`x\.average`.*mean, nested"):
        build_part("cssegcore.method.losses", Loss, recipe, "x")
