"""A step's images in memory, and batches of them."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from numpy.typing import NDArray
from torch import Tensor

from cssegcore.data.augmentation import Augmentation
from cssegcore.data.dataset import Dataset
from cssegcore.data.sampling import cut, normalise
from cssegcore.scenarios import StepList
from cssegcore.types import IGNORE


@dataclass(frozen=True)
class Batch:
    """Network input and labels (network outputs, 255 void) of b images, on the device."""

    images: Float[Tensor, "b 3 h w"]
    labels: Int[Tensor, "b h w"]


class Images:
    """The images of a list, each decoded once and kept as bytes."""

    def __init__(self, dataset: Dataset, chosen: StepList) -> None:
        """Decodes every image of `chosen`, in parallel.

        Raises:
            InputError: An image cannot be read any more.
        """
        table = chosen.label_table()
        self.names = chosen.names

        def load(name: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
            return dataset.photograph(name), table[dataset.label(name)]

        with ThreadPoolExecutor(min(16, 2 * (os.cpu_count() or 1))) as pool:
            self._pairs = list(pool.map(load, self.names))
        self._sizes = np.array([label.shape for _, label in self._pairs], np.int64)

    def __len__(self) -> int:
        return len(self._pairs)

    def decoded(self) -> Iterator[tuple[str, NDArray[np.uint8], NDArray[np.uint8]]]:
        """Yields the name, the photograph (h, w, 3) and the mapped labels (h, w) of each image."""
        for name, (photograph, label) in zip(self.names, self._pairs, strict=True):
            yield name, photograph, label

    def _stack(
        self, chosen: NDArray[np.int64], device: torch.device
    ) -> tuple[UInt8[Tensor, "b h w 3"], UInt8[Tensor, "b h w"]]:
        """Puts images into one block, padded at the bottom and right (labels with 255)."""
        height, width = self._sizes[chosen].max(0)
        photographs = np.zeros((len(chosen), height, width, 3), np.uint8)
        labels = np.full((len(chosen), height, width), IGNORE, np.uint8)
        for at, i in enumerate(chosen):
            photograph, label = self._pairs[i]
            h, w = label.shape
            photographs[at, :h, :w], labels[at, :h, :w] = photograph, label
        return torch.from_numpy(photographs).to(device), torch.from_numpy(labels).to(device)

    def epoch(
        self,
        augmentation: Augmentation,
        batch_size: int,
        rng: np.random.Generator,
        device: torch.device,
    ) -> Iterator[Batch]:
        """Yields every image once in random order; an incomplete last batch is left out.

        A list shorter than a batch makes one batch of all it has.
        """
        order = rng.permutation(len(self))
        size = min(batch_size, len(self))
        for start in range(0, len(self) - size + 1, size):
            chosen = order[start : start + size]
            views = augmentation.draw(self._sizes[chosen], rng)
            sizes = torch.from_numpy(self._sizes[chosen]).to(device)
            stacked = self._stack(chosen, device)
            yield Batch(*cut(*stacked, sizes, views, augmentation.size))

    def iterations(self, batch_size: int) -> int:
        """Returns how many batches `epoch` yields."""
        return max(1, len(self) // batch_size)

    def whole(self, batch_size: int, device: torch.device) -> Iterator[tuple[list[str], Batch]]:
        """Yields names and unaltered images in order; those in one batch are of one size."""
        start = 0
        while start < len(self):
            stop = start + 1
            while (
                stop < min(len(self), start + batch_size)
                and (self._sizes[stop] == self._sizes[start]).all()
            ):
                stop += 1
            photographs, labels = self._stack(np.arange(start, stop), device)
            yield self.names[start:stop], Batch(normalise(photographs), labels.long())
            start = stop
