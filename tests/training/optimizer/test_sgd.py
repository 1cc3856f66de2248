import functools

import pytest
import torch

from cssegcore.core.errors import InputError
from cssegcore.training.optimizer import build_optimizer
from tests.helpers.tiny_training import OPTIMIZER
from tests.helpers.two_groups import SLOW, WHOLE, give_gradients, groups, lr, weights


def start(made, weight_decay=0.0):
    return build_optimizer(OPTIMIZER | {"weight_decay": weight_decay}).start(groups(made))


@pytest.mark.parametrize("weight_decay", [0.0, 0.01])
def test_groups_move_as_pytorch_moves_them(weight_decay):
    ours, theirs = weights(), weights()
    sgd = start(ours, weight_decay)
    reference = torch.optim.SGD(
        [
            {"params": theirs[:2], "weight_decay": weight_decay},
            {"params": theirs[2:], "weight_decay": weight_decay * SLOW.weight_decay},
        ],
        lr=1.0,
        momentum=0.9,
        nesterov=True,
    )
    for at in range(6):
        for made in (ours, theirs):
            give_gradients(made, at)
        sgd.step(functools.partial(lr, at))
        for group, factors in zip(reference.param_groups, (WHOLE, SLOW), strict=True):
            group["lr"] = lr(at, factors.lr)
        reference.step()
        for mine, wanted in zip(ours, theirs, strict=True):
            assert torch.allclose(mine, wanted, rtol=1e-6, atol=1e-7)
    assert not any(torch.equal(a, b) for a, b in zip(ours, weights(), strict=True))


def test_a_weight_without_gradient_stands_still():
    made = weights()
    sgd = start(made, 0.1)
    sgd.step(lambda factor: factor)
    assert all(torch.equal(a, b) for a, b in zip(made, weights(), strict=True))
    assert sgd.state == [[None] * 2] * 2


def test_no_rate_moves_nothing_but_velocities():
    made = weights()
    sgd = start(made)
    give_gradients(made, 5)
    sgd.step(lambda factor: 0.0 if factor == SLOW.lr else 1.0)
    moved = [not torch.equal(a, b) for a, b in zip(made, weights(), strict=True)]
    assert moved == [True, True, False, False]
    assert all(velocity.any() for group in sgd.state for velocity in group)


def test_gradients_are_forgotten():
    made = weights()
    give_gradients(made, 5)
    start(made).zero_grad()
    assert all(w.grad is None for w in made)


def test_it_goes_on_from_its_state():
    whole, cut = weights(), weights()
    first, second = start(whole, 0.01), start(cut, 0.01)
    for at in range(4):
        if at == 1:  # one velocity is none here
            again = start(cut, 0.01)
            again.state = second.state
            second = again
        for made, sgd in ((whole, first), (cut, second)):
            give_gradients(made, at)
            sgd.step(functools.partial(lr, at))
    assert all(torch.equal(a, b) for a, b in zip(whole, cut, strict=True))


@pytest.mark.parametrize("momentum", [0, 1, -0.1])
def test_refusals(momentum):
    with pytest.raises(InputError, match=r"`optimizer`: `momentum` must lie in \(0, 1\)"):
        build_optimizer(OPTIMIZER | {"momentum": momentum})
