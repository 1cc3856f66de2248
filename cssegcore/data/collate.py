"""Samples put together into a batch on the device."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from cssegcore.core.normalization import Normalization
from cssegcore.core.types import IGNORE
from cssegcore.data.augmentation import Augmentation, Drawn
from cssegcore.data.batch import Batch, Sample
from cssegcore.data.crop_and_resize import crop_and_resize, normalise
from cssegcore.data.image_store import ImageStore
from cssegcore.runtime.device import to_device
from cssegcore.runtime.distributed import World

Place = tuple[ImageStore, int]
"""An image: the store that has it, and its place there."""


@dataclass(frozen=True)
class PlannedViews:
    """Random views of images that need not be decoded yet: this process's share of a batch.

    Attributes:
        places: The images.
        sizes: Height and width of each, in pixels.
        drawn: The view of each.
    """

    places: Sequence[Place]
    sizes: Int64[np.ndarray, "b 2"]
    drawn: Drawn


def plan_views(
    places: Sequence[Place], augmentation: Augmentation, rng: np.random.Generator, world: World
) -> PlannedViews:
    """Draws a random view of each image, and returns this process's share of them."""
    mine = world.shard(len(places))
    sizes = np.array([store.size(at) for store, at in places], np.int64)
    return PlannedViews(places[mine], sizes[mine], augmentation.draw(sizes, rng).of(mine))


def training_batch(
    planned: PlannedViews,
    samples: Sequence[Sample],
    augmentation: Augmentation,
    device: torch.device,
    normalization: Normalization,
) -> Batch:
    """Computes the planned views of `samples`, which are the images at `planned.places`."""
    drawn, sizes = planned.drawn, to_device(planned.sizes, device)
    padding = None
    if augmentation.pads:
        padding = to_device(np.array([sample.padding for sample in samples], np.int64), device)
    photographs, maps = crop_and_resize(
        *_stack(samples, device), sizes, drawn.views, augmentation.size, padding
    )
    if augmentation.transforms:
        images, maps = augmentation.transform(
            photographs.permute(0, 3, 1, 2),
            maps,
            [to_device(one, device) for one in drawn.acts],
            [to_device(one, device) for one in drawn.numbers],
            padding,
        )
        photographs = images.permute(0, 2, 3, 1)
    return Batch(normalise(photographs, normalization), maps[0], maps[-1])


def stacked_batch(
    samples: Sequence[Sample], device: torch.device, normalization: Normalization
) -> Batch:
    """Puts unaltered images of one size together."""
    photographs, maps = _stack(samples, device)
    labels = maps.permute(3, 0, 1, 2).long()
    return Batch(normalise(photographs, normalization), labels[0], labels[-1])


def _stack(
    samples: Sequence[Sample], device: torch.device
) -> tuple[UInt8[Tensor, "b h w 3"], UInt8[Tensor, "b h w m"]]:
    """Puts images into one block, padded at the bottom and right (labels with 255)."""
    height, width = np.array([sample.size for sample in samples]).max(0).tolist()
    kinds = max(len(sample.maps) for sample in samples)
    photographs = _block((len(samples), height, width, 3), 0, device)
    maps = _block((len(samples), height, width, kinds), IGNORE, device)
    for at, sample in enumerate(samples):
        h, w = sample.size
        photographs.numpy()[at, :h, :w] = sample.photograph
        for kind in range(kinds):  # an image with one map is labelled as it is annotated
            maps.numpy()[at, :h, :w, kind] = sample.maps[min(kind, len(sample.maps) - 1)]
    return photographs.to(device, non_blocking=True), maps.to(device, non_blocking=True)


def _block(shape: tuple[int, ...], fill: int, device: torch.device) -> UInt8[Tensor, "*shape"]:
    """Returns host memory; page-locked for a GPU, which copies it while the host works on."""
    return torch.full(shape, fill, dtype=torch.uint8, pin_memory=device.type == "cuda")
