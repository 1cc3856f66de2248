"""Shared by the penalties on weights: importance on one scale, and the pull to old weights."""

import dataclasses

import torch
from jaxtyping import Float
from torch import Tensor

from cssegcore.core.errors import InputError
from cssegcore.core.tensors import Tensors
from cssegcore.method.losses._base import Penalty, PenaltyInputs

_EPS = 1e-8


@torch.no_grad()
def normalised(importance: Tensors) -> dict[str, Tensor]:
    """Maps each weight's importances to [0, 1] by their least and largest; all equal ones to 0.

    The scale is a tensor's own: layers with large gradients do not silence the others.
    """
    scaled = {}
    for name, values in importance.items():
        low, high = values.aminmax()
        scaled[name] = (values - low).div_(high - low + _EPS)
    return scaled


def pull(now: Tensors, old: Tensors, importance: Tensors) -> Float[Tensor, ""]:
    """Computes the sum of importance times squared distance from the old weight.

    Weights that are new in the step have nowhere to be pulled to.

    Deviation: no factor 1/2, as in the released code, to which the published weights belong.

    Raises:
        InputError: No weight in training is in both.
    """
    terms = [
        (importance[name] * (weight - old[name]).square()).sum()
        for name, weight in now.items()
        if name in old and name in importance
    ]
    if not terms:
        raise InputError(
            "a penalty holds no weight: the previous step gathered no importance of any that"
            " trains. Gather it in `method.base.statistics`, and freeze less."
        )
    return torch.stack(terms).sum()


@dataclasses.dataclass(frozen=True)
class Pull(Penalty):
    """Holds each weight by its importance, on a scale of each tensor's own if `normalise`."""

    normalise: bool = True

    def importance(self, saved: Tensors) -> Tensors:
        return normalised(saved) if self.normalise else saved

    def __call__(self, weights: PenaltyInputs) -> Float[Tensor, ""]:
        return pull(weights.now, weights.old, weights.importance)
