"""One decoded image, and a batch of images on the device."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from cssegcore.runtime.distributed import shard


@dataclass(frozen=True)
class Sample:
    """One decoded image.

    Attributes:
        photograph: RGB, values 0 to 255.
        maps: The labels to train on, and the annotation if it differs; network outputs, 255 void.
        padding: Training label of the black border that a crop may add.
    """

    photograph: UInt8[np.ndarray, "h w 3"]
    maps: tuple[UInt8[np.ndarray, "h w"], ...]
    padding: int

    @property
    def size(self) -> tuple[int, int]:
        """Height and width, in pixels."""
        height, width = self.maps[0].shape
        return height, width

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return self.photograph.nbytes + sum(labels.nbytes for labels in self.maps)


@dataclass(frozen=True)
class Batch:
    """Network input and labels of b images, on the device.

    Attributes:
        images: Normalised photographs.
        labels: The label of each pixel to train on: a network output, 255 void.
        annotated: Labels as the dataset annotates them, without pseudo-labels.
        replayed: A batch of images of earlier steps, if these form batches of their own.
        sources: Index of the model that generated each image; see `Replayed.sources`.
    """

    images: Float[Tensor, "b 3 h w"]
    labels: Int[Tensor, "b h w"]
    annotated: Int[Tensor, "b h w"]
    replayed: "Batch | None" = None
    sources: Int[np.ndarray, " b"] | None = None

    def pieces(self, count: int) -> "list[Batch]":
        """Splits the batch, and its replayed batch, into `count` micro-batches.

        Their lengths differ by one image at most.
        """
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
