import numpy as np
import pytest
import torch

from cssegcore.core.errors import InputError
from cssegcore.core.registry import build_part
from cssegcore.method.losses import Loss
from tests.helpers.loss_inputs import ALL, OLD, make_inputs, random_batch


def term(**numbers):
    return build_part("cssegcore.method.losses", Loss, {"part": "mbce", **numbers}, "losses.x")


def reference(logits, labels, num_old, p):
    """Loops over pixels and new classes."""
    total, count = 0.0, 0
    for b, y, x in np.ndindex(labels.shape):
        for c in range(num_old, logits.shape[1]):
            yes = 1 / (1 + np.exp(-logits[b, c, y, x]))
            total -= p * np.log(yes) if labels[b, y, x] == c else np.log(1 - yes)
        count += 1
    return total / count


@pytest.mark.parametrize("p", [1, 2, 35])
def test_only_new_classes_are_taught_and_all_else_is_a_no(p):
    logits, old, labels = random_batch(0)
    loss = term(positive=p)(make_inputs(logits, labels, old))
    expected = reference(logits.detach().numpy(), labels.numpy(), OLD, p)
    assert loss.item() == pytest.approx(expected, rel=1e-12)
    (slope,) = torch.autograd.grad(loss, logits)
    assert (slope[:, :OLD] == 0).all()
    assert (slope[:, OLD:] != 0).all()


def test_the_base_step_teaches_all_classes_but_no_background():
    logits, _, labels = random_batch(1)
    loss = term()(make_inputs(logits, labels))
    assert loss.item() == pytest.approx(reference(logits.detach().numpy(), labels.numpy(), 1, 1))
    (slope,) = torch.autograd.grad(loss, logits)
    assert (slope[:, 0] == 0).all()
    assert slope[:, 1:ALL].all()


def test_pseudo_labels_of_old_classes_change_nothing():
    logits, old, labels = random_batch(2)
    annotated = torch.where(labels < OLD, 0, labels)
    batches = [make_inputs(logits, seen, old, annotated=annotated) for seen in (labels, annotated)]
    first, second = (term(positive=2)(batch) for batch in batches)
    assert torch.equal(first, second)


def test_sure_scores_lose_no_digits():
    logits = torch.tensor([[0.0, 40.0, -40.0]]).reshape(1, 3, 1, 1).double()
    labels = torch.ones(1, 1, 1, dtype=torch.int64)
    loss = term(positive=3)(make_inputs(logits, labels)).item()
    assert loss == pytest.approx(0, abs=1e-13)


@pytest.mark.parametrize("number", [0, -1, float("nan")])
def test_a_weight_of_yes_that_is_none_is_refused(number):
    with pytest.raises(InputError, match="`positive` must be a finite number > 0"):
        term(positive=number)
