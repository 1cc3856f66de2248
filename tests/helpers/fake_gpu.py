"""An iteration on a GPU that is only pretended: tensors without content, on a device of that name.

PyTorch refuses a tensor of the host beside one of the device, as a GPU would. Backward passes need
the device itself, so gradients are zeros; and what locks pages, or hands memory over, is replaced.
"""

import dataclasses
import functools
import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import _disable_current_modes

from cssegcore.data.batch import Batch
from cssegcore.data.batches import training_batches
from cssegcore.data.crop_and_resize import _statistics
from cssegcore.method.losses.local_pod import _windows
from cssegcore.training.trainer import Trainer

GPU = torch.device("cuda:0")


@functools.cache
def fake_mode() -> FakeTensorMode:
    """Returns the one mode that all tensors share; making it imports PyTorch's compiler."""
    return FakeTensorMode()


@contextmanager
def on_gpu(trainer: Trainer) -> Iterator[Trainer]:
    """Moves a trainer there, for good; what it holds has no content any more."""
    segmenter = trainer.segmenter

    def backward(_: Tensor) -> None:
        for weight in segmenter.parameters():
            weight.grad = torch.zeros_like(weight) if weight.requires_grad else None

    replaced = {
        "cssegcore.data.collate.to_device": send,
        "cssegcore.data.crop_and_resize.to_device": send,
        "cssegcore.training.objective.to_device": send,
        "cssegcore.data.collate._block": block,
        "cssegcore.models.inference._ordinary": ordinary,
        "torch.Tensor.backward": backward,
    }
    with ExitStack() as stack:
        for keeps in (_statistics, _windows):  # tensors of a device by its name
            keeps.cache_clear()
            stack.callback(keeps.cache_clear)
        for name, function in replaced.items():
            stack.enter_context(patch(name, function))
        stack.enter_context(fake_mode())
        for network in filter(None, (segmenter, trainer.old, *trainer.teachers)):
            move(network)
            for still in network._still:
                move(still)
        segmenter.train()
        yield dataclasses.replace(
            trainer, device=GPU, previous_statistics=moved(trainer.previous_statistics)
        )


def iterations(trainer: Trainer, count: int) -> list[Tensor]:
    """Runs some iterations, all but their updates; returns what they and statistics gave."""
    objective, size = trainer.begin().objective, trainer.optimizer.batch_size
    rng = np.random.default_rng(0)
    batches = training_batches(
        trainer.data.images,
        trainer.augmentation,
        size,
        rng,
        GPU,
        trainer.segmenter.normalization,
        trainer.data.replayed,
    )
    given: list[Tensor] = []
    for batch in itertools.islice(batches, count):
        given += tensors(batch)
        given += trainer.gradients(objective, batch).values()
    return given + [t for g in objective.accumulators.values() for t in g.result().values()]


def tensors(batch: Batch) -> list[Tensor]:
    """Returns what a batch holds."""
    beside = tensors(batch.replayed) if batch.replayed else []
    return [batch.images, batch.labels, batch.annotated, *beside]


def move(network: nn.Module) -> None:
    """Moves weights and buffers."""
    for module in network.modules():
        for held in (module._parameters, module._buffers):
            held.update({n: t if t is None else moved(t) for n, t in held.items()})


def moved(value: Any) -> Any:
    """Returns a tensor, or a mapping of any depth of them, on the pretended device."""
    if isinstance(value, Mapping):
        return {name: moved(at) for name, at in value.items()}
    if isinstance(value, FakeTensor):
        return value
    there = fake_mode().from_tensor(value).detach().to(GPU)
    return nn.Parameter(there, value.requires_grad) if isinstance(value, nn.Parameter) else there


def send(array: np.ndarray, device: torch.device) -> Tensor:
    """Stands for `device.to_device`."""
    assert device == GPU
    with _disable_current_modes():
        here = torch.from_numpy(array.copy())
    return moved(here)


@dataclasses.dataclass
class Block:
    """Memory of the host, which a batch is put together in."""

    shape: Sequence[int]

    def numpy(self) -> np.ndarray:
        """Returns what is filled in."""
        return np.empty(self.shape, np.uint8)

    def to(self, device: torch.device, **_: bool) -> Tensor:
        """Returns it on the device."""
        return torch.empty(self.shape, dtype=torch.uint8, device=device)


def block(shape: Sequence[int], *_: Any) -> Block:
    """Stands for `collate._block`."""
    return Block(shape)


def ordinary(value: Any) -> Any:
    """Stands for `observed`'s handing over: the same shapes, in memory of their own."""
    if isinstance(value, Tensor):
        return torch.empty(value.shape, dtype=value.dtype, device=value.device)
    if value is None:
        return None
    if isinstance(value, tuple):
        return tuple(map(ordinary, value))
    if value is None:
        return None
    fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    return dataclasses.replace(value, **{name: ordinary(at) for name, at in fields.items()})
