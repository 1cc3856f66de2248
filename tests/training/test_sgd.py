import functools

import numpy as np
import pytest
import torch

from cssegcore.core.config import parse
from cssegcore.training.optimizer import Optimizer
from cssegcore.training.optimizer.sgd import Sgd
from tests.helpers.tiny_training import OPTIMIZER


def weights(seed=0):
    generator = torch.Generator().manual_seed(seed)
    shapes = [(3, 4), (5,), (2, 3, 1, 1), (4,)]
    return [torch.nn.Parameter(torch.randn(s, generator=generator)) for s in shapes]


def give_gradients(made, at):
    generator = torch.Generator().manual_seed(100 + at)
    for place, weight in enumerate(made):
        gradient = torch.randn(weight.shape, generator=generator)
        # the last weight is not used in the first iterations
        weight.grad = None if place == 3 and at < 2 else gradient


def lr(factor, at):
    return factor * 0.1 * (1 - at / 10)


@pytest.mark.parametrize("weight_decay", [0.0, 0.01])
def test_groups_move_as_pytorch_moves_them(weight_decay):
    ours, theirs = weights(), weights()
    sgd = Sgd({1.0: ours[:2], 0.25: ours[2:]}, momentum=0.9, weight_decay=weight_decay)
    groups = [{"params": theirs[:2], "lr": 1.0}, {"params": theirs[2:], "lr": 1.0}]
    reference = torch.optim.SGD(
        groups, lr=1.0, momentum=0.9, nesterov=True, weight_decay=weight_decay
    )
    for at in range(6):
        for made in (ours, theirs):
            give_gradients(made, at)
        sgd.step(functools.partial(lr, at=at))
        for group, factor in zip(reference.param_groups, (1.0, 0.25), strict=True):
            group["lr"] = lr(factor, at)
        reference.step()
        for mine, wanted in zip(ours, theirs, strict=True):
            assert torch.allclose(mine, wanted, rtol=1e-6, atol=1e-7)
    before = weights()
    assert not any(torch.equal(a, b) for a, b in zip(ours, before, strict=True))


def test_a_weight_without_gradient_stands_still():
    made = weights()
    before = [w.detach().clone() for w in made]
    sgd = Sgd({1.0: made}, momentum=0.9, weight_decay=0.1)
    sgd.step(lambda factor: factor)
    assert all(torch.equal(a, b) for a, b in zip(made, before, strict=True))
    assert sgd.state == [[None] * 4]


def test_no_rate_moves_nothing_but_velocities():
    made = weights()
    before = [w.detach().clone() for w in made]
    sgd = Sgd({0.0: made[:2], 1.0: made[2:]}, momentum=0.9, weight_decay=0.0)
    give_gradients(made, 5)
    sgd.step(lambda factor: factor)
    moved = [not torch.equal(a, b) for a, b in zip(made, before, strict=True)]
    assert moved == [False, False, True, True]


def test_gradients_are_forgotten():
    made = weights()
    give_gradients(made, 5)
    Sgd({1.0: made[:1], 2.0: made[1:]}, momentum=0.9, weight_decay=0.0).zero_grad()
    assert all(w.grad is None for w in made)


def test_it_goes_on_from_its_state():
    whole, cut = weights(), weights()
    first = Sgd({1.0: whole[:2], 0.5: whole[2:]}, momentum=0.9, weight_decay=0.01)
    second = Sgd({1.0: cut[:2], 0.5: cut[2:]}, momentum=0.9, weight_decay=0.01)
    for at in range(4):
        if at == 1:  # one velocity is none here
            again = Sgd({1.0: cut[:2], 0.5: cut[2:]}, momentum=0.9, weight_decay=0.01)
            again.state = second.state
            second = again
        for made, sgd in ((whole, first), (cut, second)):
            give_gradients(made, at)
            sgd.step(functools.partial(lr, at=at))
    assert all(torch.equal(a, b) for a, b in zip(whole, cut, strict=True))


class TestRate:
    def optimizer(self, **changed):
        return parse(Optimizer, OPTIMIZER | changed, "optimizer")

    def rates(self, base, n, **changed):
        return [self.optimizer(**changed).lr(base, i, n) for i in range(n)]

    @pytest.mark.parametrize("power", [0.0, 0.9, 1.0, 2.0])
    def test_it_falls_with_the_power_of_what_is_left(self, power):
        expected = [0.3 * ((20 - i) / 20) ** power for i in range(20)]
        assert self.rates(0.3, 20, power=power) == pytest.approx(expected, rel=1e-12)

    @pytest.mark.parametrize(("warmup", "rising"), [(0.1, 2), (0.5, 10), (0.04, 0), (1.0, 20)])
    def test_it_rises_at_first_if_asked_to(self, warmup, rising):
        falling = 0.3 * (1 - np.arange(20) / 20) ** 0.9
        expected = falling.copy()
        expected[:rising] *= np.linspace(0.001, 1, rising + 1)[:-1]
        assert self.rates(0.3, 20, warmup=warmup) == pytest.approx(expected, rel=1e-12)

    def test_it_does_not_fall_below_the_floor(self):
        free, held = self.rates(0.3, 20), self.rates(0.3, 20, floor=0.1, warmup=0.2)
        rising = self.rates(0.3, 20, warmup=0.2)
        assert held == [max(rate, 0.1) for rate in rising]
        assert min(free) < 0.1 == held[0] == held[-1]

    def test_the_floor_holds_for_every_group(self):
        optimizer = self.optimizer(floor=0.02)
        assert optimizer.lr(1e-4 * 0.1, 0, 10) == 0.02
