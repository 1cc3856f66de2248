"""How a network's batch normalisations are treated while it trains."""

import contextlib
from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from cssegcore.runtime.distributed import all_reduce_sum, world


@contextlib.contextmanager
def synchronised(network: nn.Module) -> Iterator[None]:
    """Has normalisations see the batches of all processes as one.

    Those that stand still (evaluation mode) stay as they are. Others take their place for the
    duration, under the same names and with the same tensors, so that a state dict is the same.

    Args:
        network: In training mode.
    """
    norms = {}
    if world().size > 1:
        modules = network.named_modules()
        norms = {n: m for n, m in modules if isinstance(m, nn.BatchNorm2d) and m.training}
    for name, norm in norms.items():
        network.set_submodule(name, _spanning(norm))
    try:
        yield
    finally:
        for name, norm in norms.items():
            network.set_submodule(name, norm)


@contextlib.contextmanager
def undisturbed(network: nn.Module) -> Iterator[None]:
    """Leaves the running statistics alone; batches are normalised by their own as ever."""
    norms = [m for m in network.modules() if isinstance(m, _BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    yield
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def _spanning(norm: nn.BatchNorm2d) -> nn.Module:
    if norm.running_mean is not None and norm.running_mean.is_cuda:
        return nn.SyncBatchNorm.convert_sync_batchnorm(norm)
    return _Spanning(norm)


class _Spanning(nn.BatchNorm2d):
    """What `nn.SyncBatchNorm` does, which runs on GPUs alone."""

    def __init__(self, norm: nn.BatchNorm2d) -> None:
        super().__init__(norm.num_features, norm.eps, norm.momentum)
        self.weight, self.bias = norm.weight, norm.bias
        for name, buffer in norm.named_buffers():
            setattr(self, name, buffer)

    def forward(self, input: Float[Tensor, "b n h w"]) -> Float[Tensor, "b n h w"]:
        axes = (0, 2, 3)
        count = all_reduce_sum(input.new_tensor(input[:, 0].numel()))
        mean = all_reduce_sum(input.sum(axes)) / count
        centred = input - mean[:, None, None]
        variance = all_reduce_sum(centred.square().sum(axes)) / count
        self._note(mean, variance * count / (count - 1))
        scale = self.weight / (variance + self.eps).sqrt()
        return centred * scale[:, None, None] + self.bias[:, None, None]

    @torch.no_grad()
    def _note(self, mean: Float[Tensor, " n"], unbiased: Float[Tensor, " n"]) -> None:
        running = self.running_mean, self.running_var, self.num_batches_tracked
        assert all(buffer is not None for buffer in running)
        assert self.momentum is not None, "the network averages its statistics exponentially"
        self.running_mean.lerp_(mean, self.momentum)  # type: ignore[union-attr]
        self.running_var.lerp_(unbiased, self.momentum)  # type: ignore[union-attr]
        self.num_batches_tracked.add_(1)  # type: ignore[union-attr]
