"""Path integral: by how much each weight's way through training lowered the loss.

Zenke et al., Continual Learning Through Synaptic Intelligence, ICML 2017,
https://arxiv.org/abs/1703.04200.
"""

import dataclasses
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from cssegcore.core.tensors import Tensors
from cssegcore.method.statistics._base import Accumulator, Statistic, StatisticContext
from cssegcore.method.statistics._weights import carried, copies, gradients, named, restore

_EPS = 1e-20


def path_importance(
    lowered: Float[Tensor, "*shape"], moved: Float[Tensor, "*shape"]
) -> Float[Tensor, "*shape"]:
    """Computes each weight's loss decrease over its squared distance from the start.

    Negative values become 0.

    Args:
        lowered: Loss decrease due to each weight.
        moved: Distance of each weight from its start.
    """
    return (lowered / (moved.square() + _EPS)).clamp_(min=0)


@final
@dataclasses.dataclass(frozen=True)
class Path(Statistic):
    """The path integral by weight; importances of all steps so far are summed.

    Deviation: the gradient that is multiplied with an iteration's way is the one at its end, as in
    the released code, so that the first iteration gives nothing and the last one is not seen; the
    paper has the gradient at its start. Its damping ξ is 1e-20 here.
    """

    def start(self, context: StatisticContext) -> Accumulator:
        return _Accumulator(context)


class _Accumulator(Accumulator):
    def __init__(self, context: StatisticContext) -> None:
        self.previous = context.previous or {}
        self._weights = context.weights
        self._earlier = carried(context.weights, self.previous, 0.0)
        self._start = copies(context.weights)
        self._last = copies(context.weights)
        self._lowered = carried(context.weights, {}, 0.0)

    @torch.no_grad()
    def update_gradients(self) -> None:
        for name, gradient in gradients(self._weights).items():
            weight, last = self._weights[name], self._last[name]
            self._lowered[name].addcmul_(gradient, last - weight)
            last.copy_(weight)

    @property
    def state(self) -> dict[str, Tensor]:
        return named("lowered/", self._lowered) | named("last/", self._last)

    @state.setter
    def state(self, state: Tensors) -> None:
        restore(self.state, state)

    @torch.no_grad()
    def result(self) -> dict[str, Tensor]:
        return {
            name: path_importance(self._lowered[name], weight - self._start[name]) + earlier
            for (name, weight), earlier in zip(
                self._weights.items(), self._earlier.values(), strict=True
            )
        }
