"""Stops a training whose loss or weights are not finite."""

import math
from collections.abc import Mapping

import torch

from cssegcore.core.tensors import Tensors


def check_finite(
    step: str, epoch: int, means: Mapping[str, float], tensors: Tensors, remedy: str = ""
) -> None:
    """Checks the loss of an epoch and the network after it.

    Args:
        step: Name of the step, for the message.
        epoch: The epoch, counted from 0.
        means: Loss and terms, as means over the epoch's iterations.
        tensors: The network's weights and running statistics: the last update is in no loss yet.
        remedy: The key of the learning rate; the step's if it is empty.

    Raises:
        FloatingPointError: A number is infinite or NaN.
    """
    weights = torch.stack([w.isfinite().all() for w in tensors.values()])
    if not (all(map(math.isfinite, means.values())) and weights.all()):
        raise FloatingPointError(
            f"{step}, epoch {epoch + 1}: the loss or a weight is not finite ({means})."
            f" Lower {remedy or f'`steps.{step}.lr`'} or set `optimizer.clip`."
        )
