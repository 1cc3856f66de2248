"""Outputs of a network without gradient."""

import dataclasses
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from cssegcore.models.outputs import Outputs
from cssegcore.models.segmenter import Segmenter

_T = TypeVar("_T")


def infer(network: Segmenter, images: Float[Tensor, "b 3 h w"]) -> Outputs:
    """Runs a network in inference mode.

    Returns:
        Its outputs as ordinary tensors. Tensors of inference mode may take no part in a loss whose
        backward pass needs them again, so the memory of each is handed over to a new one.
    """
    with torch.inference_mode():
        outputs = network(images)
    return _ordinary(outputs)


def _ordinary(value: _T) -> _T:
    if isinstance(value, Tensor):
        with torch.cuda.device_of(value):  # it hands over on the current device only
            return torch.from_dlpack(value.detach())  # type: ignore[return-value]
    if isinstance(value, tuple):
        return type(value)(map(_ordinary, value))
    if value is None:
        return value
    names = [field.name for field in dataclasses.fields(value)]  # type: ignore[arg-type]
    return dataclasses.replace(value, **{n: _ordinary(getattr(value, n)) for n in names})  # type: ignore[type-var]
