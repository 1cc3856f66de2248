"""Riemannian walk: Fisher information, and loss decrease per change of outputs by weight.

Chaudhry et al., Riemannian Walk for Incremental Learning: Understanding Forgetting and
Intransigence, ECCV 2018, https://arxiv.org/abs/1801.10112.
"""

import dataclasses
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from cssegcore.core.ranges import at_least
from cssegcore.core.tensors import Tensors
from cssegcore.method.statistics._base import Accumulator, Statistic, StatisticContext
from cssegcore.method.statistics._weights import carried, copies, gradients, named, restore
from cssegcore.method.statistics.fisher import FRESH, update_fisher

_EPS = 1e-8


def walk_gain(
    gradient: Float[Tensor, "*shape"],
    moved: Float[Tensor, "*shape"],
    fisher: Float[Tensor, "*shape"],
) -> Float[Tensor, "*shape"]:
    """Computes the fall of the loss over the change of the outputs, at second order F moved²/2."""
    return -gradient * moved / (0.5 * fisher * moved.square() + _EPS)


@final
@dataclasses.dataclass(frozen=True)
class Walk(Statistic):
    """Both importances by weight, under `fisher/` and `path/`.

    Gains of a step that are negative in sum count nothing; then the mean is taken with those of the
    steps before. A new weight has no such mean: its gains count in full, as in the released code.

    Attributes:
        decay: See `Fisher`.
        every: Iterations between two looks at the way; the gradient is the one at its end.
    """

    decay: float = 0.9
    every: int = 10

    def __post_init__(self) -> None:
        if not 0 < self.decay <= 1:
            raise ValueError(f"`decay` must lie in (0, 1], got {self.decay}")
        at_least(1, every=self.every)

    def start(self, context: StatisticContext) -> Accumulator:
        return _Accumulator(context, self)


class _Accumulator(Accumulator):
    def __init__(self, context: StatisticContext, how: Walk) -> None:
        self.previous = context.previous or {}
        self._weights = context.weights
        self._how = how
        self._fisher = carried(context.weights, self.previous, FRESH, "fisher/")
        self._path = carried(context.weights, {}, 0.0)
        self._last = copies(context.weights)
        self._seen = 0  # iterations; on the host, so that counting waits for no device

    def update_gradients(self) -> None:
        if self._seen % self._how.every == 0:
            self._look()
        self._seen += 1
        update_fisher(self._fisher, self._weights, self._how.decay)

    @torch.no_grad()
    def _look(self) -> None:
        for name, gradient in gradients(self._weights).items():
            weight, last = self._weights[name], self._last[name]
            self._path[name] += walk_gain(gradient, weight - last, self._fisher[name])
            last.copy_(weight)

    @property
    def state(self) -> dict[str, Tensor]:
        return self._tensors | {"seen": torch.tensor(self._seen)}

    @state.setter
    def state(self, state: Tensors) -> None:
        restore(self._tensors, state)
        self._seen = int(state["seen"])

    @property
    def _tensors(self) -> dict[str, Tensor]:
        kept = {"fisher/": self._fisher, "path/": self._path, "last/": self._last}
        return {k: v for prefix, values in kept.items() for k, v in named(prefix, values).items()}

    def result(self) -> dict[str, Tensor]:
        gains = {name: gain.clamp(min=0) for name, gain in self._path.items()}
        for name, gain in gains.items():
            if (earlier := self.previous.get(f"path/{name}")) is not None:
                gains[name] = 0.5 * (gain + earlier)
        return named("fisher/", self._fisher) | named("path/", gains)
