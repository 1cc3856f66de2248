"""The images of a list, decoded when they are asked for, and kept as far as memory goes."""

import functools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from jaxtyping import Int64
from numpy.typing import NDArray

from cssegcore.core.types import BACKGROUND
from cssegcore.data.batch import Sample
from cssegcore.data.dataset import Dataset
from cssegcore.data.decode_ahead import decode_ahead
from cssegcore.data.image_list import ImageList
from cssegcore.runtime.distributed import node
from cssegcore.runtime.memory import MemoryBudget
from cssegcore.runtime.threads import decoding_threads

Labels = NDArray[np.uint8]
LabelRule = Callable[[str, Labels], tuple[Labels, Labels]]
"""Takes an image's name and its annotation as network outputs, (h, w). Returns the labels to train
on and the annotation in the same numbering, both (h, w)."""

PIXEL_BYTES = 5
"""Most bytes of a decoded pixel: three colours, the labels and the annotation."""


class ImageStore:
    """The images of a list.

    Images are decoded on each request, unless `keep` was called. The operating system's file cache
    is shared by all processes. Readers ask for a size or a sample by its place in the list.

    Attributes:
        names: Name of each image, in the order of the list.
    """

    def __init__(
        self,
        dataset: Dataset,
        image_list: ImageList,
        make_labels: LabelRule | None = None,
        padding: int = BACKGROUND,
    ) -> None:
        """Reads the size of every photograph from its header.

        Args:
            dataset: The dataset that holds the images.
            image_list: The list of images, and the meaning of their labels.
            make_labels: Turns annotations into training labels; if left out, annotations are the
                labels.
            padding: Training label of the black border that a crop may add to an image.

        Raises:
            InputError: A photograph is missing, or none.
        """
        self.names = image_list.names
        self._dataset, self._images = dataset, image_list.images
        self._table, self._make_labels = image_list.label_table(), make_labels
        self._padding = padding
        self._kept: dict[int, Sample] = {}
        self._budget: MemoryBudget | None = None
        with ThreadPoolExecutor(decoding_threads()) as pool:
            sizes = list(pool.map(dataset.image_size, self.names))
        self._sizes = np.array(sizes, np.int64).reshape(-1, 2)

    def __len__(self) -> int:
        return len(self.names)

    def keep(self, budget: MemoryBudget) -> None:
        """Decodes every image once, several at a time, and keeps as many as the budget allows.

        So what is wrong with an image is told before it is needed. Processes of one machine share
        the work; what another one has looked at is kept here when it is needed first.

        Args:
            budget: Memory for this list and for others that have the same one.

        Raises:
            InputError: An image file cannot be read, or is not what the index read.
        """
        self._budget, here = budget, node()
        with ThreadPoolExecutor(decoding_threads()) as pool:
            for _ in pool.map(self._look, range(here.rank, len(self), here.size)):
                pass

    def sample(self, place: int) -> Sample:
        """Returns the image at `place` of the list; threads may call it.

        Raises:
            InputError: A file of it cannot be read, or is not what the index read.
        """
        if (kept := self._kept.get(place)) is not None:
            return kept
        sample = self._decode(place)
        if self._budget and self._budget.take(sample.nbytes):
            self._kept[place] = sample
        return sample

    def soon(self, place: int, threads: ThreadPoolExecutor) -> Callable[[], Sample]:
        """Returns a function that gives the image at `place`, which a thread decodes meanwhile."""
        if place in self._kept:
            return functools.partial(self.sample, place)
        return threads.submit(self.sample, place).result

    def size(self, place: int) -> tuple[int, int]:
        """Returns height and width, in pixels, of the image at `place` of the list."""
        height, width = self._sizes[place].tolist()
        return height, width

    @property
    def decoded_bytes(self) -> Int64[np.ndarray, " n"]:
        """The most bytes that each image takes, decoded."""
        return PIXEL_BYTES * self._sizes.prod(1)

    def decoded(self) -> Iterator[tuple[str, NDArray[np.uint8], NDArray[np.uint8]]]:
        """Yields name, photograph (h, w, 3) and labels (h, w) of each image, in order."""
        each = ((name, [(self, at)]) for at, name in enumerate(self.names))
        for name, (sample,) in decode_ahead(each, decoding_threads()):
            yield name, sample.photograph, sample.maps[0]

    def labels_shown(self) -> list[set[int]]:
        """Returns the labels in each image, in order; photographs stay as they are."""
        with ThreadPoolExecutor(decoding_threads()) as pool:
            return list(pool.map(self._labels_of, range(len(self))))

    def _labels_of(self, place: int) -> set[int]:
        return set(np.unique(self._maps(place)[0]).tolist())

    def _look(self, place: int) -> None:
        self.sample(place)

    def _decode(self, place: int) -> Sample:
        name, content = self._images[place]
        self._dataset.check_content(name, content)
        maps = self._maps(place)
        return Sample(self._dataset.photograph(name), maps, self._padding)

    def _maps(self, place: int) -> tuple[Labels, ...]:
        name = self.names[place]
        annotated = self._table[self._dataset.label(name)]
        maps = (annotated,) if self._make_labels is None else self._make_labels(name, annotated)
        return maps[:1] if len(maps) == 2 and np.array_equal(*maps) else maps
