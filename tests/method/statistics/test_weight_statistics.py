import math

import numpy as np
import pytest
import torch
from torch.nn import Parameter

from cssegcore.core.errors import InputError
from cssegcore.core.registry import build_part
from cssegcore.method.statistics import Statistic, StatisticContext

SHAPES = {"a": (3, 2), "b": (4,), "still": (2,)}
GROWN = SHAPES | {"new": (2, 3)}
STATISTICS = ("fisher", "path", "walk")


def statistic(part, **numbers):
    return build_part("cssegcore.method.statistics", Statistic, {"part": part, **numbers}, "x")


def make_weights(shapes, seed=0):
    rng = np.random.default_rng(seed)
    return {n: Parameter(torch.tensor(rng.standard_normal(s))) for n, s in shapes.items()}


def values(tensors):
    return {name: tensor.detach().numpy().copy() for name, tensor in tensors.items()}


def begin(part, weights, before=None, **numbers):
    scene = StatisticContext(
        index=0, weights=weights, outputs=3, num_old=1, depth=8, previous=before
    )
    return statistic(part, **numbers).start(scene)


def make_trace(shapes, seed, length=33):
    """Gradients and updates of a training; `still` is frozen, `b` unused every seventh time."""
    rng = np.random.default_rng(seed)
    for at in range(length):
        used = [n for n in shapes if n != "still" and not (n == "b" and at % 7 == 3)]
        gradients = {n: rng.standard_normal(shapes[n]) for n in used}
        yield (
            gradients,
            {n: 0.1 * g + 0.05 * rng.standard_normal(g.shape) for n, g in gradients.items()},
        )


def train(accumulator, weights, trace):
    for gradients, updates in trace:
        for name, weight in weights.items():
            weight.grad = torch.tensor(gradients[name]) if name in gradients else None
        accumulator.update_gradients()
        with torch.no_grad():
            for name, update in updates.items():
                weights[name] -= torch.tensor(update)


class Replay:
    """The same training in NumPy: weights before each iteration and after the last."""

    def __init__(self, weights, trace):
        self.gradients, self.at = [], [values(weights)]
        for gradients, updates in trace:
            self.gradients.append(gradients)
            now = self.at[-1]
            self.at.append({n: now[n] - updates.get(n, 0) for n in now})
        self.names = list(weights)

    def fisher(self, before, decay=0.9, until=None):
        found = {n: before.get(n, np.ones_like(self.at[0][n])) for n in self.names}
        for gradients in self.gradients[:until]:
            for n, g in gradients.items():
                found[n] = decay * g**2 + (1 - decay) * found[n]
        return found

    def path(self, before):
        found = {}
        for n in self.names:
            last, lowered = self.at[0][n], 0.0
            for at, gradients in enumerate(self.gradients):
                if n in gradients:
                    lowered = lowered + gradients[n] * (last - self.at[at][n])
                    last = self.at[at][n]
            moved = self.at[-1][n] - self.at[0][n]
            gained = np.zeros_like(moved) + lowered / (moved**2 + 1e-20)
            found[n] = np.where(gained > 0, gained, 0) + before.get(n, 0)
        return found

    def walk(self, before, every=10):
        known = {n.removeprefix("fisher/"): v for n, v in before.items() if "fisher" in n}
        gains = {n: np.zeros_like(self.at[0][n]) for n in self.names}
        last = dict(self.at[0])
        for at in range(0, len(self.gradients), every):
            fisher = self.fisher(known, until=at)
            for n, g in self.gradients[at].items():
                moved = self.at[at][n] - last[n]
                gains[n] += g * -moved / (0.5 * fisher[n] * moved**2 + 1e-8)
                last[n] = self.at[at][n]
        found = {f"fisher/{n}": v for n, v in self.fisher(known).items()}
        for n, gain in gains.items():
            old = before.get(f"path/{n}")
            gain = np.where(gain > 0, gain, 0)
            found[f"path/{n}"] = gain if old is None else (gain + old) / 2
        return found


def close(got, expected):
    assert got.keys() == expected.keys()
    for name, tensor in got.items():
        assert not tensor.requires_grad
        np.testing.assert_allclose(tensor.numpy(), expected[name], rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("part", STATISTICS)
class TestStatistics:
    def test_two_steps_against_a_replay_in_numpy(self, part):
        first = make_weights(SHAPES)
        accumulator = begin(part, first)
        assert accumulator.previous == {}
        replay = Replay(first, make_trace(SHAPES, 1))
        train(accumulator, first, make_trace(SHAPES, 1))
        saved = accumulator.result()
        expected = getattr(replay, part)({})
        close(saved, expected)

        grown = {**first, **make_weights({"new": GROWN["new"]}, 5)}
        kept = {name: tensor.clone() for name, tensor in saved.items()}
        accumulator = begin(part, grown, saved)
        replay = Replay(grown, make_trace(GROWN, 2, 27))
        train(accumulator, grown, make_trace(GROWN, 2, 27))
        close(accumulator.result(), getattr(replay, part)(expected))
        assert accumulator.previous is saved  # what penalties read does not move
        assert all(torch.equal(saved[name], kept[name]) for name in saved)

    @pytest.mark.parametrize("cut", [1, 10, 13, 20])
    def test_going_on_after_a_kill_is_exact(self, part, cut):
        trace, before = list(make_trace(GROWN, 3)), make_before(part)
        whole = make_weights(GROWN)
        accumulator = begin(part, whole, before)
        train(accumulator, whole, trace)

        killed = make_weights(GROWN)
        gone = begin(part, killed, before)
        train(gone, killed, trace[:cut])
        state = {name: tensor.clone() for name, tensor in gone.state.items()}
        stand = values(killed)
        train(gone, killed, trace[cut:])  # must not reach what was saved

        again = make_weights(GROWN)
        resumed = begin(part, again, before)
        own = resumed.state
        with torch.no_grad():
            for name, weight in again.items():
                weight.copy_(torch.tensor(stand[name]))
        resumed.state = state
        assert {n: t.data_ptr() for n, t in resumed.state.items() if t.ndim} == {
            n: t.data_ptr() for n, t in own.items() if t.ndim
        }
        train(resumed, again, trace[cut:])
        for got, expected in (
            (resumed.state, accumulator.state),
            (resumed.result(), accumulator.result()),
        ):
            assert got.keys() == expected.keys()
            assert all(torch.equal(got[name], expected[name]) for name in got)

    def test_state_is_all_that_moves(self, part):
        weights = make_weights(SHAPES)
        accumulator = begin(part, weights)
        start = {name: tensor.clone() for name, tensor in accumulator.state.items()}
        train(accumulator, weights, make_trace(SHAPES, 4))
        moved = {n for n, t in accumulator.state.items() if not torch.equal(t, start[n])}
        assert {name for name in start if name.endswith("still")}.isdisjoint(moved)
        assert {name for name in start if not name.endswith("still")} == moved

    def test_nothing_but_frozen_weights_and_zero_gradients(self, part):
        weights = make_weights(SHAPES)
        accumulator = begin(part, weights)
        accumulator.update_gradients()
        for _ in range(12):
            for weight in weights.values():
                weight.grad = torch.zeros_like(weight)
            accumulator.update_gradients()
        assert all(t.isfinite().all() for t in accumulator.result().values())
        for name, tensor in accumulator.result().items():
            decayed = 0.1**12 if part != "path" and not name.startswith("path/") else 0.0
            assert torch.allclose(tensor, torch.full_like(tensor, decayed), rtol=1e-12, atol=0)

    def test_layout_is_the_weight_s(self, part):
        weight = Parameter(torch.randn(4, 3, 2, 2).to(memory_format=torch.channels_last))
        before = {k: v.contiguous() for k, v in begin(part, {"a": weight}).result().items()}
        found = begin(part, {"a": weight}, before).state
        assert all(t.stride() == weight.stride() for t in found.values() if t.ndim)

    def test_another_network_is_refused(self, part):
        before = begin(part, make_weights({"a": (3, 3)})).result()
        with pytest.raises(
            InputError, match=r"weight `a` with shape \(3, 3\); here it has \(3, 2\)"
        ):
            begin(part, make_weights(SHAPES), before)


def make_before(part, shapes=SHAPES, seed=9):
    rng = np.random.default_rng(seed)
    prefixes = ("fisher/", "path/") if part == "walk" else ("",)
    return {p + n: torch.tensor(rng.random(s)) for p in prefixes for n, s in shapes.items()}


class TestByHand:
    """One weight, plain numbers."""

    def run(self, part, gradients, at, **numbers):
        weight = Parameter(torch.tensor([at[0]], dtype=torch.float64))
        accumulator = begin(part, {"w": weight}, **numbers)
        for gradient, now in zip(gradients, at[1:], strict=True):
            weight.grad = torch.tensor([gradient], dtype=torch.float64)
            accumulator.update_gradients()
            weight.data.fill_(now)
        return {name: tensor.item() for name, tensor in accumulator.result().items()}

    def test_fisher(self):
        # 0.9 * 4 + 0.1 * 1 = 3.7; 0.9 * 1 + 0.1 * 3.7 = 1.27
        assert self.run("fisher", [2, 1], [0, 0, 0])["w"] == pytest.approx(1.27)
        assert self.run("fisher", [2, 1], [0, 0, 0], decay=0.5)["w"] == pytest.approx(1.75)

    def test_path(self):
        # at the second gradient the weight went from 5 to 4: 3 * 1 = 3; it ends 2 from its start
        assert self.run("path", [7, 3], [5, 4, 3])["w"] == pytest.approx(3 / 4)
        assert self.run("path", [7, -3], [5, 4, 3])["w"] == 0

    def test_walk(self):
        # looks at the first and third gradient; there F = 0.91: 0.9 * 1 + 0.1 * (0.9 * 1 + 0.1 * 1)
        found = self.run("walk", [1, 1, 6], [5, 4, 3, 2], every=2)
        assert found["path/w"] == pytest.approx(6 * 2 / (0.5 * 1 * 4))
        assert found["fisher/w"] == pytest.approx(0.9 * 36 + 0.1)


class TestRefusals:
    @pytest.mark.parametrize("part", ["fisher", "walk"])
    @pytest.mark.parametrize("decay", [0, -1, 1.1, math.nan])
    def test_decay(self, part, decay):
        with pytest.raises(InputError, match=rf"`x`: `decay`.*got {float(decay)}"):
            statistic(part, decay=decay)

    @pytest.mark.parametrize("every", [0, -3])
    def test_every(self, every):
        with pytest.raises(InputError, match=rf"`x`: `every`.*got {every}"):
            statistic("walk", every=every)
