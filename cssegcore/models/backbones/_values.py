"""Values of first weights: finite numbers where the network has numbers."""

from collections.abc import Mapping

import torch
from torch import Tensor


def check_values(found: Mapping[str, Tensor], floating: Mapping[str, bool]) -> None:
    """Refuses weights that would load without a word and compute nothing.

    Args:
        found: Tensors of the network, by the file's keys.
        floating: Whether the network's own tensor is of floating point; counters are not.

    Raises:
        ValueError: One is of whole numbers, or not finite as float32; the message names the key.
    """
    for key, value in found.items():
        if not floating[key]:
            continue
        if not value.is_floating_point():
            raise ValueError(
                f"its tensor {key} is of type {value.dtype}, and weights are of floating point:"
                " save the network as float32, before it is quantised"
            )
        if faulty := int((~torch.isfinite(value.float())).sum()):
            raise ValueError(
                f"its tensor {key} has {faulty} of {value.numel()} values that are NaN or infinite:"
                " fetch the file again, or take the weights of an earlier epoch"
            )
