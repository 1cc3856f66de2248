import math

import numpy as np
import pytest
import torch

from cssegcore.method.losses.sparsification import Sparsification, sparsification
from tests.helpers.class_scenes import (
    Golden,
    arrays,
    ids,
    passed,
    scene,
    vectors,
)


def plain_sparsification(features, labels):
    if labels.max() == 0:
        return 0.0
    total = 0.0
    for c in ids(labels):
        f = vectors(features, labels, c)
        largest = np.max(f)
        for v in f:
            scaled = [x / largest for x in v]
            total += math.fsum(map(math.exp, scaled)) / math.fsum(scaled)
    return total / labels.size


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("values", [(0, 4, 255), (0, 255), (3,), (255,), (0,)])
def test_against_plain_loops(seed, values):
    features, labels, _ = scene(seed)
    labels = torch.tensor(np.random.default_rng(seed).choice(values, labels.shape))
    expected = plain_sparsification(*arrays(features, labels))
    assert sparsification(features, labels).item() == pytest.approx(expected, rel=1e-12)


def test_golden_value():
    got = sparsification(Golden.FEATURES, Golden.SMALL)
    assert got.item() == pytest.approx(3.10362815, abs=1e-8)


def test_it_falls_when_one_channel_carries_all():
    labels = torch.ones(1, 1, 1, dtype=torch.int64)
    flat, sparse = torch.ones(1, 4, 1, 1), torch.tensor([1.0, 0, 0, 0])[None, :, None, None]
    assert sparsification(flat, labels).item() == pytest.approx(math.e)  # 4e / 4
    assert sparsification(sparse, labels).item() == pytest.approx(math.e + 3)


def test_only_background_is_nothing_to_make_sparse():
    features, labels, _ = scene(16)
    value = sparsification(features, torch.zeros_like(labels))
    assert value == 0
    assert (torch.autograd.grad(value, features)[0] == 0).all()


def test_a_pixel_without_features_adds_nothing():
    features, labels, _ = scene(17)
    dead = features.detach().clone()
    dead[0, :, 1, 1] = 0
    labels[0, 1, 1], labels[0, 0, 1] = 4, 4
    dead.requires_grad_()
    value = sparsification(dead, labels)
    others = labels.clone()
    others[0, 1, 1] = 200  # on its own, so that no other pixel's maximum changes
    expected = sparsification(dead.detach(), others)
    assert value.item() == pytest.approx(expected.item(), rel=1e-12)
    assert value < 50
    (grad,) = torch.autograd.grad(value, dead)
    assert (grad[0, :, 1, 1] == 0).all()
    assert grad.isfinite().all()


def test_the_term_is_the_function_at_the_size_of_the_features():
    features, labels, prototypes = scene(13)
    batch = passed(features, labels, prototypes)
    assert Sparsification()(batch) == sparsification(features, labels)
