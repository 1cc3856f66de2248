import numpy as np
import torch

from cssegcore.method.losses import LossInputs
from cssegcore.method.losses.weighted_feature_mse import WeightedFeatureMSE, old_class_weights
from cssegcore.models.outputs import Features, Outputs

OLD, NEW = 3, 2


def outputs(logits, top):
    return Outputs(logits, logits, Features((), torch.zeros(len(top), 1, 1, 1), top))


def drawn(seed=0):
    """Returns features, old features, old logits at their size, and labels of twice that size."""
    rng = np.random.default_rng(seed)
    top, old = rng.normal(size=(2, 2, 5, 3, 4))
    logits = rng.normal(0, 2, (2, OLD, 3, 4))
    labels = rng.choice([0, 0, 1, 2, 3, 4, 255], (2, 6, 8))
    return top, old, logits, labels


def computed(top, old, logits, labels):
    top = torch.tensor(top, requires_grad=True)
    given = (
        outputs(torch.zeros(2, OLD + NEW, 3, 4), top),
        outputs(*map(torch.tensor, (logits, old))),
    )
    labels = torch.tensor(labels)
    loss = WeightedFeatureMSE()(LossInputs(*given, labels, torch.zeros_like(labels), OLD))
    return loss.item(), torch.autograd.grad(loss, top)[0].numpy()


def test_it_is_the_formula():
    top, old, logits, labels = drawn()
    total, count, slope = 0.0, 0, np.zeros_like(top)
    for b, y, x in np.ndindex(2, 3, 4):
        label = labels[b, 2 * y, 2 * x]
        raised = np.exp(logits[b, :, y, x])
        weight = {0: raised[0] / raised.sum(), 1: 1, 2: 1}.get(int(label), 0)
        difference = top[b, :, y, x] - old[b, :, y, x]
        total += weight * (difference**2).sum()
        count += 5 * (weight > 0)
        slope[b, :, y, x] = 2 * weight * difference
    got, gradient = computed(top, old, logits, labels)
    assert np.isclose(got, total / count, rtol=1e-6)
    assert np.allclose(gradient, slope / count, rtol=1e-6)


def test_where_nothing_is_old_it_is_zero():
    top, old, logits, _ = drawn()
    got, gradient = computed(top, old, logits, np.full((2, 6, 8), 255))
    assert got == 0
    assert (gradient == 0).all()


def test_weights_by_hand():
    logits = torch.tensor([[0.0, 0.0]]).T[None, ..., None].expand(1, 2, 1, 4)
    labels = torch.tensor([[[0, 1, 2, 255]]])
    assert old_class_weights(labels, logits).tolist() == [[[0.5, 1, 0, 0]]]
