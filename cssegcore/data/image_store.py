"""The images of a list, decoded and ready to be read."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from cssegcore.core.types import BACKGROUND
from cssegcore.data.batch import Sample
from cssegcore.data.dataset import Dataset
from cssegcore.data.image_list import ImageList

Labels = NDArray[np.uint8]
LabelRule = Callable[[str, Labels], tuple[Labels, Labels]]
"""Takes an image's name and its annotation as network outputs, (h, w). Returns the labels to train
on and the annotation in the same numbering, both (h, w)."""


class ImageStore:
    """The images of a list, each decoded once and kept in memory as bytes.

    Readers ask for a size or a sample by its place in the list, and never see how it is kept.

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
        """Decodes every image of `image_list`, several at a time.

        Args:
            dataset: The dataset that holds the images.
            image_list: The list of images, and the meaning of their labels.
            make_labels: Turns annotations into training labels; if left out, annotations are the
                labels.
            padding: Training label of the black border that a crop may add to an image.

        Raises:
            InputError: An image file cannot be read, or is not what the index read.
        """
        table = image_list.label_table()
        self.names = image_list.names

        def load(image: list[str]) -> Sample:
            name, content = image
            dataset.check_content(name, content)
            annotated = table[dataset.label(name)]
            maps = (annotated,) if make_labels is None else make_labels(name, annotated)
            alike = len(maps) == 2 and np.array_equal(*maps)
            return Sample(dataset.photograph(name), maps[:1] if alike else maps, padding)

        with ThreadPoolExecutor(min(16, 2 * (os.cpu_count() or 1))) as pool:
            self._samples = list(pool.map(load, image_list.images))

    def __len__(self) -> int:
        return len(self._samples)

    def sample(self, place: int) -> Sample:
        """Returns the image at `place` of the list."""
        return self._samples[place]

    def size(self, place: int) -> tuple[int, int]:
        """Returns height and width, in pixels, of the image at `place` of the list."""
        return self._samples[place].size

    def decoded(self) -> Iterator[tuple[str, NDArray[np.uint8], NDArray[np.uint8]]]:
        """Yields name, photograph (h, w, 3) and labels (h, w) of each image, in order."""
        for place, name in enumerate(self.names):
            sample = self.sample(place)
            yield name, sample.photograph, sample.maps[0]
