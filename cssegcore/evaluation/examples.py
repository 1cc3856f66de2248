"""Example photographs that stand for a test set, with their truth and predictions."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cssegcore.core.files import replacing
from cssegcore.core.jpeg import save_jpeg
from cssegcore.core.palette import save_labels
from cssegcore.data.image_store import ImageStore
from cssegcore.evaluation.folder import example_files


def choose_examples(images: ImageStore, count: int) -> list[str]:
    """Chooses `count` images that show as many classes as they can, each as often as another."""
    present = dict(zip(images.names, images.labels_shown(), strict=True))
    # two names of one file, such as a/b and a_b, would show each other's truth
    first = {example_files(Path(), name).photo: name for name in reversed(images.names)}
    present = {name: present[name] for name in first.values()}
    shown: dict[int, int] = {}
    image_list: list[str] = []
    while len(image_list) < min(count, len(present)):
        best = max(
            (name for name in present if name not in image_list),
            key=lambda name: sum(1 / (1 + shown.get(c, 0)) ** 2 for c in present[name]),
        )
        image_list.append(best)
        for c in present[best]:
            shown[c] = shown.get(c, 0) + 1
    return image_list


def write_examples(
    out: Path,
    images: ImageStore,
    image_list: Sequence[str],
    predicted: Mapping[str, NDArray[np.uint8]],
) -> None:
    """Writes photograph, truth and prediction of each chosen image.

    Raises:
        InputError: The disk is full or the folder cannot be written.
    """
    out.mkdir(parents=True, exist_ok=True)
    for place, name in enumerate(images.names):
        if name not in image_list:
            continue
        sample, files = images.sample(place), example_files(out, name)
        with replacing(files.photo, durable=False) as temporary:
            save_jpeg(temporary, Image.fromarray(sample.photograph), 90)
        pictures = ((files.truth, sample.maps[0]), (files.prediction, predicted[name]))
        for path, labels in pictures:
            with replacing(path, durable=False) as temporary:
                save_labels(temporary, labels)
