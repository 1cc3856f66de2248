"""AdamW, PyTorch's own class: the optimizer of transformers.

Loshchilov and Hutter, Decoupled Weight Decay Regularization, ICLR 2019,
https://arxiv.org/abs/1711.05101. The first `torch.optim.Optimizer` of a process imports the
compiler front end, which takes seconds: every training process pays that here.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, final

import torch
from torch import Tensor

from cssegcore.training.optimizer._base import Groups, Optimizer, Updater

AdamState = Mapping[int, Mapping[str, Tensor]]


@final
@dataclasses.dataclass(frozen=True, kw_only=True)
class AdamW(Optimizer):
    """Adam with decoupled weight decay: a weight shrinks by `lr * weight_decay` of itself.

    Attributes:
        betas: Decay rates, per iteration, of the running means of gradient and squared gradient.
        eps: Added to the root of the mean squared gradient.
    """

    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8

    def __post_init__(self) -> None:
        super().__post_init__()
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"`betas` must lie in [0, 1), got {list(self.betas)}")
        if not 0 < self.eps < 1:
            raise ValueError(f"`eps` must lie in (0, 1), got {self.eps}")

    def start(self, groups: Groups) -> "AdamWUpdater":
        return AdamWUpdater(groups, self)


@final
class AdamWUpdater(Updater):
    """The weights and their running means, in a `torch.optim.AdamW`."""

    def __init__(self, groups: Groups, numbers: AdamW) -> None:
        self._factors = [factors.lr for factors in groups]
        on_gpu = any(weight.is_cuda for weights in groups.values() for weight in weights)
        self._adamw = torch.optim.AdamW(
            [
                {"params": list(weights), "weight_decay": numbers.weight_decay * f.weight_decay}
                for f, weights in groups.items()
            ],
            betas=numbers.betas,
            eps=numbers.eps,
            fused=on_gpu,
            foreach=not on_gpu,
        )

    def zero_grad(self) -> None:
        self._adamw.zero_grad(set_to_none=True)

    def step(self, lr: Callable[[float], float]) -> None:
        for factor, group in zip(self._factors, self._adamw.param_groups, strict=True):
            group["lr"] = lr(factor)
        self._adamw.step()

    @property
    def state(self) -> AdamState:
        """Iterations and running means by the weight's place; nothing before the first step."""
        return self._adamw.state_dict()["state"]

    @state.setter
    def state(self, state: dict[int, dict[str, Any]]) -> None:
        groups = self._adamw.state_dict()["param_groups"]
        self._adamw.load_state_dict({"state": state, "param_groups": groups})
