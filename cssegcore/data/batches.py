"""A step's images in memory, and batches of them."""

import itertools
import os
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from numpy.typing import NDArray
from torch import Tensor

from cssegcore.data.augmentation import Augmentation, Crops
from cssegcore.data.dataset import Dataset
from cssegcore.data.crop_and_resize import crop_and_resize, normalise
from cssegcore.runtime.device import to_device
from cssegcore.runtime.distributed import ALONE, World, shard
from cssegcore.scenario.scenario import StepList
from cssegcore.core.types import BACKGROUND, IGNORE

Labels = NDArray[np.uint8]
Revise = Callable[[str, Labels], tuple[Labels, Labels]]
"""Turns the mapped annotation of a named image into the labels to train on and, beside them, what
is annotated; both (h, w)."""


@dataclass(frozen=True)
class Batch:
    """Network input and labels (network outputs, 255 void) of b images, on the device.

    `labels` are to be trained on; `annotated` leaves out what is no annotation but a guess.
    `replayed` is a batch of earlier steps beside this one, `sources` what `Replayed.sources` says
    of its images.
    """

    images: Float[Tensor, "b 3 h w"]
    labels: Int[Tensor, "b h w"]
    annotated: Int[Tensor, "b h w"]
    replayed: "Batch | None" = None
    sources: Int[np.ndarray, " b"] | None = None

    def pieces(self, count: int) -> "list[Batch]":
        """Cuts it, and what is replayed beside it, into batches of much the same length."""
        return [self] if count == 1 else [self._piece(at, count) for at in range(count)]

    def _piece(self, at: int, count: int) -> "Batch":
        mine = shard(len(self.images), at, count)
        return Batch(
            self.images[mine],
            self.labels[mine],
            self.annotated[mine],
            None if self.replayed is None else self.replayed._piece(at, count),
            None if self.sources is None else self.sources[mine],
        )


@dataclass(frozen=True)
class Sample:
    """One decoded image.

    Attributes:
        photograph: RGB.
        maps: Its labels, and what is annotated if that differs.
        padding: Label of what a view pads it with.
    """

    photograph: UInt8[np.ndarray, "h w 3"]
    maps: tuple[UInt8[np.ndarray, "h w"], ...]
    padding: int

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        height, width = self.maps[0].shape
        return height, width


@dataclass(frozen=True)
class Replayed:
    """Images of earlier steps.

    Attributes:
        images: Which.
        shard: Of the images of an iteration.
        separate_batches: Whether they form batches of their own beside the step's, which stay
            whole; if not, they take places in the step's batches.
        sources: Where each image is from, as whoever reads it numbers such places.
    """

    images: "Images"
    share: float
    separate_batches: bool = False
    sources: Int[np.ndarray, " n"] | None = None

    def replay_batch_size(self, size: int) -> int:
        """Returns how many of them an iteration sees beside `size` images of the step."""
        return max(1, round(size * self.share / (1 - self.share))) if self.separate_batches else 0


class Images:
    """The images of a list, each decoded once and kept as bytes."""

    def __init__(
        self,
        dataset: Dataset,
        image_list: StepList,
        revise: Revise | None = None,
        padding: int = BACKGROUND,
    ) -> None:
        """Decodes every image of `image_list`, in parallel.

        Args:
            dataset: Where they lie.
            image_list: Which, and what their labels mean.
            revise: What is done to annotations before training; nothing if left out.
            padding: What `revise` makes of background that holds nothing: the label of what views
                pad an image with.

        Raises:
            InputError: An image cannot be read any more.
        """
        table = image_list.label_table()
        self.names = image_list.names

        def load(image: list[str]) -> Sample:
            name, content = image
            dataset.check_content(name, content)
            annotated = table[dataset.label(name)]
            maps = (annotated,) if revise is None else revise(name, annotated)
            alike = len(maps) == 2 and np.array_equal(*maps)
            return Sample(dataset.photograph(name), maps[:1] if alike else maps, padding)

        with ThreadPoolExecutor(min(16, 2 * (os.cpu_count() or 1))) as pool:
            self._samples = list(pool.map(load, image_list.images))

    def __len__(self) -> int:
        return len(self._samples)

    def decoded(self) -> Iterator[tuple[str, NDArray[np.uint8], NDArray[np.uint8]]]:
        """Yields the name, the photograph (h, w, 3) and the labels (h, w) of each image."""
        for name, sample in zip(self.names, self._samples, strict=True):
            yield name, sample.photograph, sample.maps[0]

    def epoch(
        self,
        augmentation: Augmentation,
        batch_size: int,
        rng: np.random.Generator,
        device: torch.device,
        replayed: Replayed | None = None,
        world: World = ALONE,
    ) -> Generator[Batch]:
        """Yields every image once in random order; an incomplete last batch is left out.

        A process of `world` sees its share of every batch, which all of them draw alike.

        A list shorter than a batch makes one batch of all it has. With `replayed`, random places
        of every batch go to those images instead, and what stood there is not seen in this epoch;
        or, if they stay apart, every batch brings one of those along.
        """
        order = rng.permutation(len(self))
        size = min(batch_size, len(self))
        others = _endless(len(replayed.images), rng) if replayed else iter(())
        for start in range(0, len(self) - size + 1, size):
            samples = [self._samples[i] for i in order[start : start + size]]
            if replayed and not replayed.separate_batches:
                for place in rng.permutation(size)[: int(size * replayed.share)]:
                    samples[place] = replayed.images._samples[next(others)]
            batch = _view(samples, augmentation, rng, device, world)
            if replayed and replayed.separate_batches:
                places = list(itertools.islice(others, replayed.replay_batch_size(size)))
                beside = [replayed.images._samples[at] for at in places]
                seen = _view(beside, augmentation, rng, device, world)
                if replayed.sources is not None:
                    mine = places[world.shard(len(places))]
                    seen = replace(seen, sources=replayed.sources[mine])
                batch = replace(batch, replayed=seen)
            yield batch

    def smallest_batch(self, batch_size: int, replayed: Replayed | None) -> int:
        """Returns the length of the shortest batch of `epoch`, beside batches included."""
        size = min(batch_size, len(self))
        return min(size, replayed.replay_batch_size(size)) if replayed and replayed.separate_batches else size

    def iterations(self, batch_size: int) -> int:
        """Returns how many batches `epoch` yields."""
        return max(1, len(self) // batch_size)

    def whole(
        self, batch_size: int, device: torch.device, world: World = ALONE
    ) -> Iterator[tuple[list[str], Batch]]:
        """Yields names and unaltered images in order; those in one batch are of one size.

        A process of `world` sees every so manieth image.
        """
        mine = slice(world.rank, None, world.size)
        names, samples = self.names[mine], self._samples[mine]
        start = 0
        while start < len(samples):
            stop = start + 1
            size = samples[start].size
            while stop < min(len(samples), start + batch_size) and samples[stop].size == size:
                stop += 1
            photographs, maps = _stack(samples[start:stop], device)
            labels = maps.permute(3, 0, 1, 2).long()
            yield names[start:stop], Batch(normalise(photographs), labels[0], labels[-1])
            start = stop


def _view(
    samples: Sequence[Sample],
    augmentation: Augmentation,
    rng: np.random.Generator,
    device: torch.device,
    world: World,
) -> Batch:
    """Draws a random view of each sample, and cuts out those of this process's share."""
    sizes = np.array([sample.size for sample in samples], np.int64)
    views, mine = augmentation.draw(sizes, rng), world.shard(len(samples))
    samples, sizes = samples[mine], sizes[mine]
    views = Crops(views.boxes[mine], views.flips[mine])
    padding = np.array([sample.padding for sample in samples], np.int64)
    labels = to_device(padding, device) if augmentation.pads else None
    blocks = _stack(samples, device)
    images, maps = crop_and_resize(*blocks, to_device(sizes, device), views, augmentation.size, labels)
    return Batch(images, maps[0], maps[-1])


def _endless(count: int, rng: np.random.Generator) -> Iterator[int]:
    """Yields all numbers below `count` in random order, again and again."""
    while True:
        yield from rng.permutation(count)


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
    """Returns memory of the host, page-locked if a GPU is to read it without anybody waiting."""
    return torch.full(shape, fill, dtype=torch.uint8, pin_memory=device.type == "cuda")
