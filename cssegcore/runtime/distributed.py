"""Several processes, one a GPU, that train or test one network together.

Each computes its share of every batch, and sums over the processes put the shares together. There
is no `DistributedDataParallel` here: it wants one forward pass a backward pass, and an iteration
with replay has two. A plain sum of the gradients before the update is exact and needs no wrapper,
whose names would be in the model file; what it gives away is that communication could begin while
gradients are still being computed.

Alone, which is outside of torchrun or of `process_group`, every function hands back what it was
given.
"""

import contextlib
import datetime
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist  # part of `import torch`: costs nothing by itself
from jaxtyping import Shaped
from torch import Tensor
from torch.nn import Parameter

from cssegcore.core.errors import InputError

_T = TypeVar("_T")

PATIENCE = "CSSEGCORE_PATIENCE"
"""Environment variable: seconds that a process waits for the others before it gives up."""

PATIENT = 600
"""Default in seconds, the same as NCCL's."""

BUCKET = 2**23
"""Numbers that are sent at once: 32 MiB of gradients."""


@dataclass(frozen=True)
class World:
    """Rank of this process, and number of processes."""

    rank: int = 0
    size: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this process (rank 0) writes the files."""
        return self.rank == 0

    def shard(self, count: int) -> slice:
        """Returns this process's part of `count` items in a row."""
        return shard(count, self.rank, self.size)


def shard(count: int, part: int, parts: int) -> slice:
    """Returns a part of `count` items in a row; sizes of parts differ by one at most."""
    return slice(part * count // parts, (part + 1) * count // parts)


ALONE = World()


def world() -> World:
    """Returns the rank of this process and the size of its `process_group`."""
    if not (dist.is_available() and dist.is_initialized()):
        return ALONE
    return World(dist.get_rank(), dist.get_world_size())


def processes_started() -> int:
    """Returns the number of processes that torchrun started, on all machines; 1 outside of it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def node() -> World:
    """Returns rank and number of the processes that torchrun started on this machine."""
    size = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return World(int(os.environ["LOCAL_RANK"]), size) if size > 1 else ALONE


@contextlib.contextmanager
def process_group(device: torch.device, patience: int = 0) -> Iterator[World]:
    """Joins the processes that torchrun started, by NCCL on CUDA and by gloo elsewhere.

    A process waits for the others as many seconds as `CSSEGCORE_PATIENCE` says, or `patience` if
    that is more.

    If the block raises, the process group is not destroyed: other processes may still wait, and
    torchrun ends them.

    Raises:
        InputError: Another process has ended, or does not answer.
    """
    if processes_started() == 1:
        yield ALONE
        return
    seconds = max(_patience(), patience)
    limit = datetime.timedelta(seconds=seconds)
    try:
        if device.type == "cuda":
            dist.init_process_group("nccl", device_id=device, timeout=limit)
        else:
            dist.init_process_group("gloo", timeout=limit)
        yield world()
    except RuntimeError as error:
        if not isinstance(error, dist.DistError) and "gloo" not in str(error):
            raise
        raise InputError(
            f"another process of this one's group is gone, or did not answer for {seconds} s"
            f" ({PATIENCE}): run the same command again, finished epochs are kept. Said of it:"
            f" {' '.join(str(error).split())[:200]}"
        ) from None
    dist.destroy_process_group()


def _patience() -> int:
    text = os.environ.get(PATIENCE) or str(PATIENT)
    if not text.isdecimal() or int(text) < 1:
        raise InputError(f"{PATIENCE} is {text[:40]!r}: set a number of seconds.")
    return int(text)


def all_reduce_sum(values: Shaped[Tensor, "*shape"]) -> Shaped[Tensor, "*shape"]:
    """Sums over the processes. The gradient is that of the sum of all processes' losses."""
    return values if world().size == 1 else _Total.apply(values)  # type: ignore[return-value]


class _Total(torch.autograd.Function):
    """`torch.distributed.nn.functional.all_reduce`, which new versions warn of."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:  # noqa: ANN401
        del ctx
        summed = values.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(summed)
        return summed

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:  # noqa: ANN401
        del ctx
        return _Total.apply(gradients[0])  # type: ignore[return-value]


@torch.no_grad()
def average_gradients(parameters: Iterable[Parameter]) -> None:
    """Replaces every gradient by its mean over the processes; all must have the same ones."""
    size = world().size
    if size == 1:
        return
    for bucket in _buckets([p.grad for p in parameters if p.grad is not None]):
        flat = torch.cat([gradient.flatten() for gradient in bucket])
        dist.all_reduce(flat)
        flat /= size
        parts = flat.split([gradient.numel() for gradient in bucket])
        for gradient, part in zip(bucket, parts, strict=True):
            gradient.copy_(part.view_as(gradient))


def _buckets(tensors: Iterable[Tensor]) -> Iterator[list[Tensor]]:
    bucket: list[Tensor] = []
    for tensor in tensors:
        bucket.append(tensor)
        if sum(t.numel() for t in bucket) >= BUCKET:
            yield bucket
            bucket = []
    if bucket:
        yield bucket


@torch.no_grad()
def broadcast(tensors: Iterable[Tensor]) -> None:
    """Gives all processes the first one's values, in place."""
    if world().size > 1:
        for tensor in tensors:
            sent = tensor.contiguous()
            dist.broadcast(sent, 0)
            tensor.copy_(sent)


def all_gather(value: _T) -> list[_T]:
    """Returns every process's value, by rank; for small values."""
    values: list[Any] = [value] * world().size
    if len(values) > 1:
        dist.all_gather_object(values, value)
    return values
