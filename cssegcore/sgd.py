"""SGD with Nesterov momentum, without the cost of `torch.optim.SGD`'s first use.

Constructing any `torch.optim.Optimizer` imports the whole compiler front end, which takes seconds,
and every step of the pipeline is a process. The update itself is PyTorch's own function, fused on
CUDA.
"""

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim.sgd import sgd


class Sgd:
    """The weights it moves, and their velocities."""

    def __init__(
        self, parameters: Iterable[Parameter], *, momentum: float, weight_decay: float
    ) -> None:
        """Takes the weights that are not frozen."""
        self._weights = [p for p in parameters if p.requires_grad]
        self._velocities: list[Tensor | None] = [None] * len(self._weights)
        self._momentum = momentum
        self._weight_decay = weight_decay

    def zero_grad(self) -> None:
        """Forgets the gradients."""
        for weight in self._weights:
            weight.grad = None

    @torch.no_grad()
    def step(self, lr: float) -> None:
        """Moves every weight that has a gradient."""
        moved = [i for i, weight in enumerate(self._weights) if weight.grad is not None]
        velocities = [self._velocities[i] for i in moved]
        on_gpu = self._weights[0].is_cuda
        sgd(
            [self._weights[i] for i in moved],
            [g for i in moved if (g := self._weights[i].grad) is not None],
            velocities,
            fused=on_gpu,
            foreach=not on_gpu,
            weight_decay=self._weight_decay,
            momentum=self._momentum,
            lr=lr,
            dampening=0.0,
            nesterov=True,
            maximize=False,
        )
        for i, velocity in zip(moved, velocities, strict=True):
            self._velocities[i] = velocity

    @property
    def state(self) -> list[Tensor | None]:
        """The velocities, in the order of the weights; None before the first step."""
        return self._velocities

    @state.setter
    def state(self, velocities: list[Tensor | None]) -> None:
        self._velocities = list(velocities)
