"""Running Fisher information: how much the loss feels each weight, the last iterations above all.

Kirkpatrick et al., Overcoming Catastrophic Forgetting in Neural Networks, PNAS 2017,
https://arxiv.org/abs/1612.00796, made running as in Chaudhry et al., Riemannian Walk for
Incremental Learning, ECCV 2018, https://arxiv.org/abs/1801.10112.
"""

import dataclasses
from collections.abc import Mapping
from typing import final

import torch
from torch import Tensor
from torch.nn import Parameter

from cssegcore.core.tensors import Tensors
from cssegcore.method.statistics._base import Accumulator, Statistic, StatisticContext
from cssegcore.method.statistics._weights import carried, gradients, restore

FRESH = 1.0
"""Value of a weight before its first gradient."""


@torch.no_grad()
def update_fisher(
    fisher: Mapping[str, Tensor], weights: Mapping[str, Parameter], decay: float
) -> None:
    """Moves F to `decay` g² + (1 - `decay`) F, in place, where there is a gradient g.

    Deviation: g is the gradient of the batch's mean, not of one example; `decay` stands on the new
    gradient, so that 0.9 forgets within a few iterations; F starts at 1. All as in MiB's released
    baselines.
    """
    for name, gradient in gradients(weights).items():
        fisher[name].mul_(1 - decay).addcmul_(gradient, gradient, value=decay)


@final
@dataclasses.dataclass(frozen=True)
class Fisher(Statistic):
    """Fisher information by weight, carried on from step to step as it is.

    Attributes:
        decay: Share of the newest gradient.
    """

    decay: float = 0.9

    def __post_init__(self) -> None:
        if not 0 < self.decay <= 1:
            raise ValueError(f"`decay` must lie in (0, 1], got {self.decay}")

    def start(self, context: StatisticContext) -> Accumulator:
        return _Accumulator(context, self.decay)


class _Accumulator(Accumulator):
    def __init__(self, context: StatisticContext, decay: float) -> None:
        self.previous = context.previous or {}
        self._weights = context.weights
        self._decay = decay
        self._fisher = carried(context.weights, self.previous, FRESH)

    def update_gradients(self) -> None:
        update_fisher(self._fisher, self._weights, self._decay)

    @property
    def state(self) -> dict[str, Tensor]:
        return dict(self._fisher)

    @state.setter
    def state(self, state: Tensors) -> None:
        restore(self._fisher, state)

    def result(self) -> dict[str, Tensor]:
        return dict(self._fisher)
