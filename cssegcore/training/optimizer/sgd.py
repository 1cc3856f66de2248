"""SGD with Nesterov momentum, without the cost of `torch.optim.SGD`'s first use.

Constructing any `torch.optim.Optimizer` imports the whole compiler front end, which takes seconds,
and every step of the pipeline is a process. The update itself is PyTorch's own function, fused on
CUDA.
"""

import dataclasses
from collections.abc import Callable
from typing import final

import torch
from torch import Tensor
from torch.optim.sgd import sgd

from cssegcore.training.optimizer._base import Groups, Optimizer, Updater

Velocities = list[list[Tensor | None]]


@final
@dataclasses.dataclass(frozen=True, kw_only=True)
class Sgd(Optimizer):
    """SGD with Nesterov momentum.

    Attributes:
        momentum: Factor of the velocity, per iteration.
    """

    momentum: float

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.momentum < 1:
            raise ValueError(f"`momentum` must lie in (0, 1) for Nesterov, got {self.momentum}")

    def start(self, groups: Groups) -> "SgdUpdater":
        return SgdUpdater(groups, momentum=self.momentum, weight_decay=self.weight_decay)


@final
class SgdUpdater(Updater):
    """The weights and their velocities."""

    def __init__(self, groups: Groups, *, momentum: float, weight_decay: float) -> None:
        self._groups = {factors: list(weights) for factors, weights in groups.items()}
        self._velocities: Velocities = [[None] * len(g) for g in groups.values()]
        self._momentum = momentum
        self._weight_decay = weight_decay

    def zero_grad(self) -> None:
        for weights in self._groups.values():
            for weight in weights:
                weight.grad = None

    @torch.no_grad()
    def step(self, lr: Callable[[float], float]) -> None:
        for (factors, weights), kept in zip(self._groups.items(), self._velocities, strict=True):
            moved = [i for i, weight in enumerate(weights) if weight.grad is not None]
            if not moved:
                continue
            velocities = [kept[i] for i in moved]
            on_gpu = weights[0].is_cuda
            sgd(
                [weights[i] for i in moved],
                [g for i in moved if (g := weights[i].grad) is not None],
                velocities,
                fused=on_gpu,
                foreach=not on_gpu,
                weight_decay=self._weight_decay * factors.weight_decay,
                momentum=self._momentum,
                lr=lr(factors.lr),
                dampening=0.0,
                nesterov=True,
                maximize=False,
            )
            for i, velocity in zip(moved, velocities, strict=True):
                kept[i] = velocity

    @property
    def state(self) -> Velocities:
        """The velocities, in the order of groups and weights; None before the first step."""
        return self._velocities

    @state.setter
    def state(self, state: Velocities) -> None:
        self._velocities = [list(group) for group in state]
