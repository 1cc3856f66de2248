"""SGD with Nesterov momentum, without the cost of `torch.optim.SGD`'s first use.

Constructing any `torch.optim.Optimizer` imports the whole compiler front end, which takes seconds,
and every step of the pipeline is a process. The update itself is PyTorch's own function, fused on
CUDA.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim.sgd import sgd


class Sgd:
    """The weights it moves, in groups of one learning rate, and their velocities."""

    def __init__(
        self, groups: Mapping[float, Sequence[Parameter]], *, momentum: float, weight_decay: float
    ) -> None:
        """Takes the weights by the factor of their learning rate."""
        self._groups = {factor: list(weights) for factor, weights in groups.items()}
        self._velocities: list[list[Tensor | None]] = [[None] * len(g) for g in groups.values()]
        self._momentum = momentum
        self._weight_decay = weight_decay

    def zero_grad(self) -> None:
        """Forgets the gradients."""
        for weights in self._groups.values():
            for weight in weights:
                weight.grad = None

    @torch.no_grad()
    def step(self, lr: Callable[[float], float]) -> None:
        """Moves every weight that has a gradient.

        Args:
            lr: Returns the learning rate of a group from its factor.
        """
        for (factor, weights), kept in zip(self._groups.items(), self._velocities, strict=True):
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
                weight_decay=self._weight_decay,
                momentum=self._momentum,
                lr=lr(factor),
                dampening=0.0,
                nesterov=True,
                maximize=False,
            )
            for i, velocity in zip(moved, velocities, strict=True):
                kept[i] = velocity

    @property
    def state(self) -> list[list[Tensor | None]]:
        """The velocities, in the order of groups and weights; None before the first step."""
        return self._velocities

    @state.setter
    def state(self, velocities: list[list[Tensor | None]]) -> None:
        self._velocities = [list(group) for group in velocities]
