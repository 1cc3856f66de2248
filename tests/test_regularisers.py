import math

import numpy as np
import pytest
import torch
from torch.nn import Parameter

from cssegcore.errors import InputError
from cssegcore.losses import Loss, Penalty, Weights
from cssegcore.losses._penalty import normalised
from cssegcore.parts import make_part

SHAPES = {"a": (3, 2), "b": (4,), "still": (2,)}
GROWN = SHAPES | {"new": (2, 3)}
PENALTIES = {"ewc": "fisher", "pi": "path", "rw": "walk"}


def penalty(part, **numbers):
    return make_part("cssegcore.losses", Penalty, {"part": part, **numbers}, "x")


def make_weights(shapes, seed=0):
    rng = np.random.default_rng(seed)
    return {n: Parameter(torch.tensor(rng.standard_normal(s))) for n, s in shapes.items()}


def values(tensors):
    return {name: tensor.detach().numpy().copy() for name, tensor in tensors.items()}


def make_before(part, shapes=SHAPES, seed=9):
    rng = np.random.default_rng(seed)
    prefixes = ("fisher/", "path/") if part == "walk" else ("",)
    return {p + n: torch.tensor(rng.random(s)) for p in prefixes for n, s in shapes.items()}


@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize("part", PENALTIES)
class TestPenalties:
    def scene(self, part, seed=0):
        old = {n: weight.detach() for n, weight in make_weights(SHAPES, seed + 1).items()}
        return Weights(
            make_weights(GROWN, seed), old, {PENALTIES[part]: make_before(PENALTIES[part])}
        )

    def plain_importance(self, part, importance, name, normalise):
        def scale(x):
            return (x - x.min()) / (x.max() - x.min() + 1e-8) if normalise else x

        if part == "rw":
            return scale(importance[f"fisher/{name}"]) + scale(importance[f"path/{name}"])
        return scale(importance[name])

    def test_against_numpy(self, part, normalise):
        weights = self.scene(part)
        importance = values(weights.importance[PENALTIES[part]])
        now, old = values(weights.now), values(weights.old)
        omega = {n: self.plain_importance(part, importance, n, normalise) for n in SHAPES}
        expected = sum((omega[n] * (now[n] - old[n]) ** 2).sum() for n in SHAPES)
        value = penalty(part, normalise=normalise)(weights)
        assert value.item() == pytest.approx(expected, rel=1e-12)
        value.backward()
        for name in SHAPES:
            gradient = 2 * omega[name] * (now[name] - old[name])
            np.testing.assert_allclose(weights.now[name].grad.numpy(), gradient, rtol=1e-12)
        assert weights.now["new"].grad is None

    def test_gradients_fit_the_values(self, part, normalise):
        weights, term = self.scene(part), penalty(part, normalise=normalise)

        def value(a):
            return term(Weights({**weights.now, "a": a}, weights.old, weights.importance))

        assert torch.autograd.gradcheck(value, weights.now["a"])

    def test_weights_that_are_frozen_left_out_or_new_are_not_asked_for(self, part, normalise):
        weights, term = self.scene(part), penalty(part, normalise=normalise)
        without = {n: w for n, w in weights.now.items() if n != "still"}
        whole = term(weights).item()
        assert term(Weights(without, weights.old, weights.importance)).item() < whole
        saved = weights.importance[PENALTIES[part]]
        fewer = {PENALTIES[part]: {n: v for n, v in saved.items() if not n.endswith("still")}}
        partly = term(Weights(weights.now, weights.old, fewer))
        assert partly.item() == term(Weights(without, weights.old, weights.importance)).item()

    @pytest.mark.parametrize("amp", [False, True])
    @pytest.mark.parametrize("fill", [0.0, 1.0, 1e18])
    def test_finite_and_nothing_at_the_old_weights(self, part, normalise, amp, fill):
        now = {n: Parameter(w.detach().float()) for n, w in make_weights(GROWN).items()}
        saved = {
            n: torch.full_like(v, fill).float() for n, v in make_before(PENALTIES[part]).items()
        }
        old = {n: now[n].detach().clone() for n in SHAPES}
        term = penalty(part, normalise=normalise)
        with torch.autocast("cpu", torch.bfloat16, enabled=amp):
            value = term(Weights(now, old, {PENALTIES[part]: saved}))
        value.backward()
        assert value == 0
        assert value.dtype == torch.float32
        assert all((now[n].grad == 0).all() for n in SHAPES)

    def test_equal_importances_hold_nothing_once_normalised(self, part, normalise):
        weights = self.scene(part)
        saved = {n: torch.full_like(v, 3.0) for n, v in make_before(PENALTIES[part]).items()}
        value = penalty(part, normalise=normalise)(
            Weights(weights.now, weights.old, {PENALTIES[part]: saved})
        )
        assert (value.item() == 0) == normalise
        value.backward()
        assert all(weights.now[n].grad.isfinite().all() for n in SHAPES)

    def test_nothing_to_hold_is_refused(self, part, normalise):
        weights = self.scene(part)
        with pytest.raises(InputError, match=r"holds no weight.*`method\.base\.statistics`"):
            penalty(part, normalise=normalise)(
                Weights(weights.now, weights.old, {PENALTIES[part]: {}})
            )


def test_each_tensor_has_its_own_scale():
    got = normalised({"a": torch.tensor([1.0, 3.0, 2.0]), "b": torch.tensor([10.0, 500.0])})
    assert got["a"].tolist() == pytest.approx([0, 1, 0.5])
    assert got["b"].tolist() == pytest.approx([0, 1])


def test_penalties_say_what_they_read():
    for part, read in PENALTIES.items():
        term = penalty(part)
        assert (term.statistic, term.needs_old, term.scores) == (read, True, None)
        assert not isinstance(term, Loss)


@pytest.mark.parametrize("part", PENALTIES)
def test_a_weight_that_is_no_number_is_refused(part):
    with pytest.raises(InputError, match=r"`x`: `weight`.*got nan"):
        penalty(part, weight=math.nan)
