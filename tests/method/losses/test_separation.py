import numpy as np
import pytest
import torch

from cssegcore.method.losses.separation import separation

OLD, NEW, DEPTH, STRIDE = 3, 2, 5, 4


def make_batch(seed, classes=(0, 3, 4, 255)):
    rng = np.random.default_rng(seed)
    top = torch.tensor(rng.random((2, DEPTH, 2, 3)), requires_grad=True)
    labels = torch.tensor(rng.choice(classes, (2, 2 * STRIDE, 3 * STRIDE)))
    prototypes = torch.tensor(rng.random((OLD - 1, DEPTH)))
    return top, labels, prototypes / prototypes.norm(dim=1, keepdim=True)


def plain_direction(top, labels, output):
    """Sums unit vectors; a place's share of a class is that of the four pixels in its middle."""
    total, middle = np.zeros(DEPTH), (STRIDE // 2 - 1, STRIDE // 2)
    for at, i, j in np.ndindex(2, 2, 3):
        f = top[at, :, i, j].detach().numpy()
        pixels = [labels[at, STRIDE * i + a, STRIDE * j + b] for a in middle for b in middle]
        total += np.mean([bool(label == output) for label in pixels]) * f / np.linalg.norm(f)
    length = np.linalg.norm(total)
    return total / length if length else total


def plain_loss(top, labels, prototypes):
    each = []
    for output in range(OLD, OLD + NEW):
        v = plain_direction(top, labels, output)
        each.append(1 / min(np.linalg.norm(v - p) for p in prototypes.numpy()))
    return np.mean(each)


@pytest.mark.parametrize("seed", [0, 1])
def test_against_plain_loops(seed):
    batch = make_batch(seed)
    assert separation(*batch, OLD, NEW).item() == pytest.approx(plain_loss(*batch), rel=1e-9)


def test_a_class_that_is_not_there_is_a_constant():
    top, labels, prototypes = make_batch(2, (0, 3, 255))
    loss = separation(top, labels, prototypes, OLD, NEW)
    assert loss.item() == pytest.approx(plain_loss(top, labels, prototypes), rel=1e-9)
    alone = separation(top, labels, prototypes, OLD, 1)
    assert loss.item() == pytest.approx((alone.item() + 1) / 2, rel=1e-9)
    nothing = separation(top, torch.zeros_like(labels), prototypes, OLD, NEW)
    assert nothing.item() == pytest.approx(1, rel=1e-9)
    assert (torch.autograd.grad(nothing, top)[0] == 0).all()


def test_an_old_class_without_a_prototype_is_near_to_nothing():
    top, labels, prototypes = make_batch(3)
    more = torch.cat([prototypes, torch.zeros(1, DEPTH, dtype=prototypes.dtype)])
    got = separation(top, labels, more, OLD, NEW)
    assert got.item() == separation(top, labels, prototypes, OLD, NEW).item()
    assert separation(top, labels, 0 * more, OLD, NEW).item() == 0


def test_a_class_on_top_of_an_old_one_stays_finite():
    top, labels, _ = make_batch(4, (3,))
    own = torch.tensor(plain_direction(top, labels, 3))
    loss = separation(top, labels, own[None], OLD, 1)
    assert loss.item() > 1e5
    assert loss.isfinite()
    assert torch.autograd.grad(loss, top)[0].isfinite().all()
