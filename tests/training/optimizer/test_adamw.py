import functools
import io
import math

import pytest
import torch

from cssegcore.core.errors import InputError
from cssegcore.training.optimizer import build_optimizer
from tests.helpers import tiny_dataset as scenes
from tests.helpers.tiny_training import OPTIMIZER
from tests.helpers.two_groups import SLOW, WHOLE, give_gradients, groups, lr, weights

NUMBERS = {
    "part": "adamw",
    "betas": [0.8, 0.95],
    "eps": 1e-6,
    "weight_decay": 0.1,
    **{k: OPTIMIZER[k] for k in ("batch_size", "power", "clip", "amp")},
}


def start(made, **changed):
    return build_optimizer(NUMBERS | changed).start(groups(made))


def test_weights_move_as_the_formulas_say():
    """AdamW of the paper (algorithm 2), one weight at a time in float64."""
    made = weights()
    adamw = start(made)
    wanted = [w.detach().double().clone() for w in made]
    first, second, seen = [[torch.zeros_like(w) for w in wanted] for _ in range(2)] + [[0] * 4]
    for at in range(5):
        give_gradients(made, at)
        adamw.step(functools.partial(lr, at))
        for i, weight in enumerate(made):
            if weight.grad is None:
                continue
            factors, g = (WHOLE if i < 2 else SLOW), weight.grad.double()
            seen[i] += 1
            first[i] = 0.8 * first[i] + 0.2 * g
            second[i] = 0.95 * second[i] + 0.05 * g * g
            mean, square = first[i] / (1 - 0.8 ** seen[i]), second[i] / (1 - 0.95 ** seen[i])
            rate, decay = lr(at, factors.lr), 0.1 * factors.weight_decay
            wanted[i] -= rate * (decay * wanted[i] + mean / (square.sqrt() + 1e-6))
    for got, want in zip(made, wanted, strict=True):
        assert torch.allclose(got.double(), want, rtol=1e-5, atol=1e-6)
    assert not any(torch.equal(a, b) for a, b in zip(made, weights(), strict=True))


def test_a_weight_without_gradient_stands_still():
    made = weights()
    adamw = start(made)
    adamw.step(lambda factor: factor)
    assert all(torch.equal(a, b) for a, b in zip(made, weights(), strict=True))
    assert adamw.state == {}


def test_gradients_are_forgotten():
    made = weights()
    give_gradients(made, 5)
    start(made).zero_grad()
    assert all(w.grad is None for w in made)


def test_it_goes_on_from_its_saved_state():
    whole, cut = weights(), weights()
    first, second = start(whole), start(cut)
    for at in range(4):
        if at == 1:  # one weight has no running means here
            file = io.BytesIO()
            torch.save(second.state, file)
            file.seek(0)
            second = start(cut)
            second.state = torch.load(file, weights_only=True)
            assert len(second.state) == 3
        for made, adamw in ((whole, first), (cut, second)):
            give_gradients(made, at)
            adamw.step(functools.partial(lr, at))
    assert all(torch.equal(a, b) for a, b in zip(whole, cut, strict=True))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"betas": [0.9, 1]}, r"`betas` must lie in \[0, 1\), got \[0\.9, 1\.0\]"),
        ({"betas": [0.9]}, "`optimizer.betas` must hold 2 values"),
        ({"eps": 0}, r"`eps` must lie in \(0, 1\), got 0"),
        ({"eps": math.inf}, "`eps` must lie in"),
        ({"weight_decay": -1}, "`weight_decay` must be a finite number >= 0"),
        ({"momentum": 0.9}, "`optimizer.momentum` is not a key"),
    ],
)
def test_refusals(wrong, message):
    with pytest.raises(InputError, match=message):
        build_optimizer(NUMBERS | wrong)


def test_its_configuration_fits():
    section = scenes.composed("optimizer=adamw")["optimizer"]
    optimizer = build_optimizer(section)
    assert (optimizer.betas, optimizer.eps, optimizer.weight_decay) == ((0.9, 0.999), 1e-8, 0.01)
