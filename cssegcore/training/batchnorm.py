"""Batch normalization during training: over several processes, and without new statistics."""

import contextlib
from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from cssegcore.runtime.distributed import all_reduce_sum, world


@contextlib.contextmanager
def synchronized(network: nn.Module) -> Iterator[None]:
    """Computes batch statistics over the batches of all processes, inside this context.

    Modules in training mode are replaced by synchronizing ones under the same names and with the
    same tensors, so that the state dict is the same. Modules in evaluation mode stay as they are.

    Args:
        network: The network, in training mode.
    """
    norms = {}
    if world().size > 1:
        modules = network.named_modules()
        norms = {n: m for n, m in modules if isinstance(m, nn.BatchNorm2d) and m.training}
    for name, norm in norms.items():
        network.set_submodule(name, _synchronizing(norm))
    try:
        yield
    finally:
        for name, norm in norms.items():
            network.set_submodule(name, norm)


@contextlib.contextmanager
def frozen_running_stats(network: nn.Module) -> Iterator[None]:
    """Does not update running statistics, inside this context; batch statistics are used."""
    norms = [m for m in network.modules() if isinstance(m, _BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum


def _synchronizing(norm: nn.BatchNorm2d) -> nn.Module:
    if norm.running_mean is not None and norm.running_mean.is_cuda:
        return nn.SyncBatchNorm.convert_sync_batchnorm(norm)
    return _SyncBatchNormCPU(norm)


class _SyncBatchNormCPU(nn.BatchNorm2d):
    """`nn.SyncBatchNorm` for CPUs: PyTorch's own runs on GPUs only.

    It lets two processes on a CPU train as one does, which tests do without a GPU.
    """

    def __init__(self, norm: nn.BatchNorm2d) -> None:
        super().__init__(norm.num_features, norm.eps, norm.momentum)
        self.weight, self.bias = norm.weight, norm.bias
        for name, buffer in norm.named_buffers():
            setattr(self, name, buffer)

    def forward(self, input: Float[Tensor, "b n h w"]) -> Float[Tensor, "b n h w"]:
        if not self.training:
            return super().forward(input)
        axes = (0, 2, 3)
        count = all_reduce_sum(input.new_tensor(input[:, 0].numel()))
        mean = all_reduce_sum(input.sum(axes)) / count
        centred = input - mean[:, None, None]
        variance = all_reduce_sum(centred.square().sum(axes)) / count
        self._update(mean, variance * count / (count - 1))
        scale = self.weight / (variance + self.eps).sqrt()
        return centred * scale[:, None, None] + self.bias[:, None, None]

    @torch.no_grad()
    def _update(self, mean: Float[Tensor, " n"], unbiased: Float[Tensor, " n"]) -> None:
        running = self.running_mean, self.running_var, self.num_batches_tracked
        assert all(buffer is not None for buffer in running)
        assert self.momentum is not None, "the network averages its statistics exponentially"
        self.running_mean.lerp_(mean, self.momentum)  # type: ignore[union-attr]
        self.running_var.lerp_(unbiased, self.momentum)  # type: ignore[union-attr]
        self.num_batches_tracked.add_(1)  # type: ignore[union-attr]
