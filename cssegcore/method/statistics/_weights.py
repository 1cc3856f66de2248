"""Shared by the statistics of weights."""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import Parameter

from cssegcore.core.errors import InputError
from cssegcore.core.tensors import Tensors


def gradients(weights: Mapping[str, Parameter]) -> dict[str, Tensor]:
    """Returns the gradients of the weights that have one: neither frozen nor unused."""
    return {name: w.grad for name, w in weights.items() if w.grad is not None}


def copies(weights: Mapping[str, Parameter]) -> dict[str, Tensor]:
    """Returns the weights as they stand."""
    return {name: weight.detach().clone() for name, weight in weights.items()}


def carried(
    weights: Mapping[str, Parameter], previous: Tensors, fresh: float, prefix: str = ""
) -> dict[str, Tensor]:
    """Returns copies of the previous step's value of each weight; new weights get `fresh`.

    Raises:
        InputError: The saved value of a weight has another shape.
    """
    values = {}
    for name, weight in weights.items():
        values[name] = torch.full_like(weight, fresh, requires_grad=False)
        saved = previous.get(prefix + name)
        if saved is None:
            continue
        if saved.shape != weight.shape:
            raise InputError(
                f"The previous step saved a statistic of weight `{name}` with shape"
                f" {tuple(saved.shape)}; here it has {tuple(weight.shape)}: the network changed."
                " Train the previous step again."
            )
        values[name].copy_(saved)
    return values


def named(prefix: str, values: Tensors) -> dict[str, Tensor]:
    """Puts `prefix` before each name."""
    return {prefix + name: tensor for name, tensor in values.items()}


def restore(current: Tensors, saved: Tensors) -> None:
    """Copies the saved values into the current tensors."""
    for name, tensor in current.items():
        tensor.copy_(saved[name])
