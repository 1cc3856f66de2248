"""Fuses batch norm (evaluation mode) into the preceding convolution.

In evaluation mode a normalisation is a factor and an offset for each channel, and so part of the
convolution that it follows. The result is the same up to rounding, and the features are read and
written once less.
"""

import copy
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

Network = TypeVar("Network", bound=nn.Module)
_SIDE = 64
"""Side in pixels of the photograph that is run to pair normalisations with convolutions."""


def fuse_batchnorm(network: Network) -> Network:
    """Returns a copy for evaluation that shares no weights with the network.

    Args:
        network: A convolution's output is assumed to be read by its batch norm only. Batch norms
            that read anything else stay as they are.
    """
    network = copy.deepcopy(network).eval().requires_grad_(False)
    for norm, convolution in _pairs(network).items():
        fused = network.get_submodule(convolution), network.get_submodule(norm)
        _replace(network, convolution, fuse_conv_bn_eval(*fused))  # type: ignore[type-var]
        _replace(network, norm, nn.Identity())
    return network


def _pairs(network: nn.Module) -> dict[str, str]:
    """Returns the name of each normalisation's convolution."""
    made: list[tuple[Tensor, str]] = []  # keeps outputs alive, so that none takes another's place
    pairs: dict[str, str] = {}

    def watch(name: str, module: nn.Module) -> torch.utils.hooks.RemovableHandle:
        def hook(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            if isinstance(module, nn.Conv2d):
                made.append((output, name))
            else:
                pairs.update((name, by) for tensor, by in made if tensor is inputs[0])

        return module.register_forward_hook(hook)

    kinds = nn.Conv2d, nn.BatchNorm2d
    hooks = [watch(n, m) for n, m in network.named_modules() if isinstance(m, kinds)]
    with torch.no_grad():
        network(torch.zeros(1, 3, _SIDE, _SIDE, device=next(network.parameters()).device))
    for hook in hooks:
        hook.remove()
    return pairs


def _replace(network: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(network.get_submodule(parent), child, module)
