import numpy as np
import pytest
import torch
from torch.nn import Parameter

from cssegcore.core.errors import InputError
from cssegcore.core.registry import build_part
from cssegcore.method.losses import Loss, Penalty, PenaltyInputs
from cssegcore.method.losses._penalty import normalised

SHAPES = {"a": (3, 2), "b": (4,), "still": (2,)}
GROWN = SHAPES | {"new": (2, 3)}
PENALTIES = {"ewc": "fisher", "pi": "path", "rw": "walk"}


def penalty(part, **numbers):
    return build_part("cssegcore.method.losses", Penalty, {"part": part, **numbers}, "x")


def held(term, now, old, saved):
    """What a penalty says, as the objective asks it."""
    return term(PenaltyInputs(now, old, term.importance(saved)))


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
        """Weights of a step, those of the step before it, and what that one saved."""
        old = {n: weight.detach() for n, weight in make_weights(SHAPES, seed + 1).items()}
        return make_weights(GROWN, seed), old, make_before(PENALTIES[part])

    def plain_importance(self, part, importance, name, normalise):
        def scale(x):
            return (x - x.min()) / (x.max() - x.min() + 1e-8) if normalise else x

        if part == "rw":
            return scale(importance[f"fisher/{name}"]) + scale(importance[f"path/{name}"])
        return scale(importance[name])

    def test_against_numpy(self, part, normalise):
        now, old, saved = self.scene(part)
        at, before, importance = values(now), values(old), values(saved)
        omega = {n: self.plain_importance(part, importance, n, normalise) for n in SHAPES}
        expected = sum((omega[n] * (at[n] - before[n]) ** 2).sum() for n in SHAPES)
        value = held(penalty(part, normalise=normalise), now, old, saved)
        assert value.item() == pytest.approx(expected, rel=1e-12)
        value.backward()
        for name in SHAPES:
            gradient = 2 * omega[name] * (at[name] - before[name])
            np.testing.assert_allclose(now[name].grad.numpy(), gradient, rtol=1e-12)
        assert now["new"].grad is None

    def test_importance_is_of_the_old_weights_by_their_names(self, part, normalise):
        _, _, saved = self.scene(part)
        kept = values(saved)
        found = penalty(part, normalise=normalise).importance(saved)
        assert found.keys() == SHAPES.keys()
        for name, tensor in found.items():
            expected = self.plain_importance(part, kept, name, normalise)
            np.testing.assert_allclose(tensor.numpy(), expected, rtol=1e-12)
        for name, tensor in saved.items():  # the statistic goes on from it
            assert np.array_equal(tensor.numpy(), kept[name])

    def test_weights_that_are_frozen_left_out_or_new_are_not_asked_for(self, part, normalise):
        (now, old, saved), term = self.scene(part), penalty(part, normalise=normalise)
        without = {n: w for n, w in now.items() if n != "still"}
        partly = held(term, without, old, saved).item()
        assert partly < held(term, now, old, saved).item()
        fewer = {n: v for n, v in saved.items() if not n.endswith("still")}
        assert held(term, now, old, fewer).item() == partly

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
            value = held(term, now, old, saved)
        value.backward()
        assert value == 0
        assert value.dtype == torch.float32
        assert all((now[n].grad == 0).all() for n in SHAPES)

    def test_equal_importances_hold_nothing_once_normalised(self, part, normalise):
        now, old, saved = self.scene(part)
        equal = {n: torch.full_like(v, 3.0) for n, v in saved.items()}
        value = held(penalty(part, normalise=normalise), now, old, equal)
        assert (value.item() == 0) == normalise
        value.backward()
        assert all(now[n].grad.isfinite().all() for n in SHAPES)

    def test_nothing_to_hold_is_refused(self, part, normalise):
        now, old, _ = self.scene(part)
        with pytest.raises(InputError, match=r"holds no weight.*`method\.base\.statistics`"):
            held(penalty(part, normalise=normalise), now, old, {})


def test_each_tensor_has_its_own_scale():
    got = normalised({"a": torch.tensor([1.0, 3.0, 2.0]), "b": torch.tensor([10.0, 500.0])})
    assert got["a"].tolist() == pytest.approx([0, 1, 0.5])
    assert got["b"].tolist() == pytest.approx([0, 1])


def test_penalties_say_what_they_read():
    for part, read in PENALTIES.items():
        term = penalty(part)
        assert (term.statistic, term.needs_old, term.scores) == (read, True, None)
        assert not isinstance(term, Loss)
