import math

import numpy as np
import pytest
import torch

from cssegcore.core.errors import InputError
from cssegcore.core.registry import build_part
from cssegcore.method.losses import Loss
from cssegcore.method.losses.repulsion import Repulsion, repulsion
from tests.helpers.class_scenes import (
    ALL,
    Golden,
    arrays,
    assert_void_is_nothing,
    gathered,
    ids,
    passed,
    scene,
    two_pixels,
)


def plain_repulsion(features, labels, gather):
    means = [np.mean(gathered(features, labels, c, gather, "n p"), 0) for c in ids(labels, 255)]
    pairs = [math.dist(m, k) for i, m in enumerate(means) for j, k in enumerate(means) if i != j]
    far = [1 / d for d in pairs if d > 0]
    return math.fsum(far) / max(len(far), 1)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("gather", ["intended", "released"])
def test_against_plain_loops(seed, gather):
    features, labels, _ = scene(seed)
    expected = plain_repulsion(*arrays(features, labels), gather)
    got = repulsion(features, labels, ALL, gather)
    assert got.item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("gather", "value"), [("released", 2.75851757), ("intended", 3.88333073)])
def test_golden_values(gather, value):
    got = repulsion(Golden.FEATURES, Golden.SMALL, 6, gather)
    assert got.item() == pytest.approx(value, abs=1e-8)


def test_two_classes_of_a_pixel_each_by_hand():
    features, labels, _ = two_pixels()
    assert repulsion(features, labels, 2).item() == pytest.approx(1 / 5)


def test_what_stands_in_ignored_pixels_does_not_matter():
    assert_void_is_nothing(lambda features, labels, _: repulsion(features, labels, ALL))


@pytest.mark.parametrize("classes", [25, 26, 40])
def test_many_classes(classes):
    """Above 25 rows a library's distance of a point to itself may not be 0."""
    rng = torch.Generator().manual_seed(classes)
    means = 30 + 0.1 * torch.randn(classes, 64, generator=rng)
    features = means.T.reshape(1, 64, 1, classes)
    labels = torch.arange(classes).reshape(1, 1, classes)
    expected = plain_repulsion(*arrays(features.double(), labels), "intended")
    assert repulsion(features, labels, classes).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("gather", ["intended", "released"])
def test_a_single_class_repels_nobody(gather):
    features, labels, prototypes = scene(15)
    single = torch.where(labels == 255, 255, 4)
    value = Repulsion(gather=gather)(passed(features, single, prototypes))
    assert value == 0
    assert (torch.autograd.grad(value, features)[0] == 0).all()


def test_equal_means_do_not_count():
    """Equal up to rounding: their distance says nothing, and its inverse would say a lot."""
    features = torch.full((1, 64, 4, 4), 0.1)
    features[..., 3] = 0.2
    labels = torch.tensor([0, 1, 1, 2]).expand(1, 4, 4).clone()
    labels[0, 0, :2] = 1
    features.requires_grad_()
    value = repulsion(features, labels, 3)
    assert value.item() == pytest.approx(1 / (0.1 * 8), rel=1e-5)
    assert torch.autograd.grad(value, features)[0].abs().max() < 1


def test_the_term_is_the_function_at_the_size_of_the_features():
    features, labels, prototypes = scene(13)
    batch = passed(features, labels, prototypes)
    assert Repulsion()(batch) == repulsion(features, labels, ALL)


def test_refused_gather():
    with pytest.raises(InputError, match=r"`x\.gather`.*intended, released"):
        build_part("cssegcore.method.losses", Loss, {"part": "repulsion", "gather": "code"}, "x")
