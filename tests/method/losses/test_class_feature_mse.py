import numpy as np
import torch

from cssegcore.method.losses import LossInputs
from cssegcore.method.losses.class_feature_mse import ClassFeatureMSE
from cssegcore.models.outputs import Features, Outputs


def outputs(classes):
    none = torch.zeros(len(classes), classes.shape[2], 1, 1)
    logits = torch.zeros(len(classes), classes.shape[1], 1, 1)
    return Outputs(logits, logits, Features((), none, none, classes=classes))


def test_old_classes_are_compared_and_new_ones_left():
    rng = np.random.default_rng(0)
    new, old = rng.normal(size=(2, 5, 4)), rng.normal(size=(2, 3, 4))
    classes = torch.tensor(new, requires_grad=True)
    labels = torch.zeros(2, 1, 1, dtype=torch.int64)
    seen = LossInputs(outputs(classes), outputs(torch.tensor(old)), labels, labels, 3)
    loss = ClassFeatureMSE()(seen)
    assert np.isclose(loss.item(), ((new[:, :3] - old) ** 2).sum() / (2 * 3 * 4))
    (gradient,) = torch.autograd.grad(loss, classes)
    expected = np.zeros_like(new)
    expected[:, :3] = 2 * (new[:, :3] - old) / (2 * 3 * 4)
    assert np.allclose(gradient.numpy(), expected)


def test_it_asks_for_class_tokens_and_the_old_model():
    assert ClassFeatureMSE.needs_class_tokens
    assert ClassFeatureMSE.needs_old
