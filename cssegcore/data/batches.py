"""The batches of an epoch, and the batches of a test."""

import contextlib
import itertools
from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Int

from cssegcore.core.normalization import Normalization
from cssegcore.data.augmentation import Augmentation
from cssegcore.data.batch import Batch
from cssegcore.data.collate import Place, PlannedViews, plan_views, stacked_batch, training_batch
from cssegcore.data.decode_ahead import decode_ahead
from cssegcore.data.image_store import ImageStore
from cssegcore.runtime.distributed import ALONE, World
from cssegcore.runtime.threads import decoding_threads


@dataclass(frozen=True)
class Replayed:
    """Images of earlier steps that a training sees again.

    Attributes:
        images: The images.
        share: Their share of the images of an iteration.
        separate_batches: Whether they form batches of their own beside the step's, which stay
            whole; if not, they take places in the step's batches.
        sources: Index of the model that generated each image.
        concatenated: Whether they join the step's images in one list, each seen once an epoch;
            `share` is 0 then.
    """

    images: ImageStore
    share: float
    separate_batches: bool = False
    sources: Int[np.ndarray, " n"] | None = None
    concatenated: bool = False

    @property
    def joined(self) -> int:
        """Number of images that join the step's in one list."""
        return len(self.images) if self.concatenated else 0

    def places(self, size: int) -> int:
        """Returns how many of `size` images of a batch are replayed.

        One at least, since a list shorter than a batch would else leave the memory out; but a batch
        of one image stays the step's.
        """
        return max(int(size * self.share), 1 if self.share and size > 1 else 0)

    def replay_batch_size(self, size: int) -> int:
        """Returns the length of the replayed batch that goes with `size` images of the step."""
        return images_beside(size, self.share) if self.separate_batches else 0


def images_beside(size: int, share: float) -> int:
    """Returns how many images, at least 1, stand beside `size` others for a share of the whole."""
    return max(1, round(size * share / (1 - share)))


def training_batches(
    images: ImageStore,
    augmentation: Augmentation,
    batch_size: int,
    rng: np.random.Generator,
    device: torch.device,
    normalization: Normalization,
    replayed: Replayed | None = None,
    world: World = ALONE,
    *,
    join_rest: bool = False,
) -> Generator[Batch]:
    """Yields the batches of one epoch: every image once, in random order.

    An incomplete last batch is left out, unless `join_rest`; a list shorter than a batch makes one
    batch of all it has. With `replayed`, random places of every batch go to those images instead,
    and the images that stood there are not seen in this epoch; or, if `replayed.separate_batches`,
    every batch has a batch of those images beside it. If they are `replayed.concatenated`, every
    image of both is seen once.

    Args:
        images: The step's images.
        augmentation: Crops and changes each image at random.
        batch_size: Images of a batch, over all processes.
        rng: Draws all random numbers of the epoch; alike in every process.
        device: Device on which batches are computed.
        normalization: Normalization of the network that reads the batches.
        replayed: Images of earlier steps.
        world: Place of this process among those that share each batch.
        join_rest: Whether the last batch takes in the images that are too few for one more.

    Raises:
        InputError: An image file cannot be read, or is not what the index read.
    """
    plans = _plans(images, augmentation, batch_size, rng, replayed, world, join_rest)
    groups = ((plan, plan.places) for plan in plans)
    how = augmentation, device, normalization
    with contextlib.closing(decode_ahead(groups, 1)) as ready:
        for plan, samples in ready:
            batch = training_batch(plan.own, samples[: len(plan.own.places)], *how)
            if plan.replayed:
                seen = training_batch(plan.replayed, samples[len(plan.own.places) :], *how)
                batch = replace(batch, replayed=replace(seen, sources=plan.sources))
            del samples
            yield batch


def iterations(images: ImageStore, batch_size: int, replayed: Replayed | None = None) -> int:
    """Returns the number of batches that `training_batches` yields."""
    return max(1, _seen_once(images, replayed) // batch_size)


def smallest_batch(images: ImageStore, batch_size: int, replayed: Replayed | None) -> int:
    """Returns the length of the shortest batch of an epoch, replayed batches included."""
    size = min(batch_size, _seen_once(images, replayed))
    return (
        min(size, replayed.replay_batch_size(size))
        if replayed and replayed.separate_batches
        else size
    )


def evaluation_batches(
    images: ImageStore,
    batch_size: int,
    device: torch.device,
    normalization: Normalization,
    world: World = ALONE,
) -> Iterator[tuple[list[str], Batch]]:
    """Yields names and batches of unaltered images, in order; images of a batch have one size.

    Process `rank` of `size` (`world`) yields batches rank, rank + size, and so on, so that a batch
    holds the same images whatever the number of processes.

    Raises:
        InputError: An image file cannot be read, or is not what the index read.
    """
    mine = itertools.islice(_of_one_size(images, batch_size), world.rank, None, world.size)
    groups = ((places, [(images, at) for at in places]) for places in mine)
    with contextlib.closing(decode_ahead(groups, decoding_threads())) as ready:
        for places, samples in ready:
            batch = stacked_batch(samples, device, normalization)
            del samples
            yield [images.names[at] for at in places], batch


@dataclass(frozen=True)
class _Plan:
    """Plan of a batch: its views, and the views of the replayed batch beside it."""

    own: PlannedViews
    replayed: PlannedViews | None = None
    sources: Int[np.ndarray, " n"] | None = None

    @property
    def places(self) -> list[Place]:
        """The images, the batch's own first."""
        return [*self.own.places, *(self.replayed.places if self.replayed else ())]


def _plans(
    images: ImageStore,
    augmentation: Augmentation,
    batch_size: int,
    rng: np.random.Generator,
    replayed: Replayed | None,
    world: World,
    join_rest: bool,
) -> Iterator[_Plan]:
    """Draws all random numbers of an epoch, batch by batch; see `training_batches`."""
    pool = [(images, at) for at in range(len(images))]
    if replayed and replayed.concatenated:
        pool += [(replayed.images, at) for at in range(len(replayed.images))]
    order = rng.permutation(len(pool))
    size = min(batch_size, len(pool))
    others = _endless(len(replayed.images), rng) if replayed else iter(())
    for start in range(0, len(pool) - size + 1, size):
        last = join_rest and start + 2 * size > len(pool)
        places = [pool[at] for at in (order[start:] if last else order[start : start + size])]
        if replayed and not replayed.separate_batches:
            for place in rng.permutation(size)[: replayed.places(size)]:
                places[place] = replayed.images, next(others)
        plan = _Plan(plan_views(places, augmentation, rng, world))
        if replayed and replayed.separate_batches:
            image_list = list(itertools.islice(others, replayed.replay_batch_size(size)))
            again = [(replayed.images, at) for at in image_list]
            mine = image_list[world.shard(len(image_list))]
            sources = None if replayed.sources is None else replayed.sources[mine]
            plan = replace(
                plan, replayed=plan_views(again, augmentation, rng, world), sources=sources
            )
        yield plan


def _of_one_size(images: ImageStore, batch_size: int) -> Iterator[range]:
    """Yields the places of batches in order, whose images have one size each."""
    start = 0
    while start < len(images):
        stop, size = start + 1, images.size(start)
        while stop < min(len(images), start + batch_size) and images.size(stop) == size:
            stop += 1
        yield range(start, stop)
        start = stop


def training_bytes(images: ImageStore, batch_size: int, replayed: Replayed | None) -> int:
    """Returns the most bytes of decoded images that `training_batches` holds in a process.

    They are those of a batch and of the next one, which threads decode meanwhile. Images of other
    processes are not decoded.

    Args:
        images: The step's images.
        batch_size: Images of a batch that this process computes.
        replayed: Images of earlier steps.
    """
    each, beside = images.decoded_bytes, 0
    if replayed and replayed.separate_batches:
        others = replayed.images.decoded_bytes
        beside = _largest(others, replayed.replay_batch_size(batch_size))
    elif replayed:
        each = np.concatenate([each, replayed.images.decoded_bytes])
    return 2 * (_largest(each, batch_size) + beside)


def _largest(each: Int[np.ndarray, " n"], count: int) -> int:
    """Returns the sum of the `count` largest numbers."""
    return int(np.sort(each)[max(0, len(each) - count) :].sum())


def _seen_once(images: ImageStore, replayed: Replayed | None) -> int:
    """Returns the number of images in the list that an epoch goes through."""
    return len(images) + (replayed.joined if replayed else 0)


def _endless(count: int, rng: np.random.Generator) -> Iterator[int]:
    """Yields all numbers below `count` in random order, again and again."""
    while True:
        yield from rng.permutation(count).tolist()
