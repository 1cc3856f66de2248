"""The embedded dataset as files, in Pascal VOC's layout."""

from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image

from cssegcore.core.errors import InputError
from cssegcore.core.files import replacing, write_text
from cssegcore.core.jpeg import save_jpeg
from cssegcore.core.palette import save_labels
from cssegcore.data.shapes.scene import make_scene
from cssegcore.data.shapes.sprites import CLASSES

JPEG_QUALITY: Final = 85
"""750 scenes of 96 x 96 then take 2 MB."""

LEAST_SIZE: Final = 32
"""Least side of a scene in pixels; in smaller ones no pattern can be made out."""


def make_dataset(root: Path, *, seed: int, train: int, val: int, size: int = 96) -> None:
    """Writes a dataset of square scenes: the same bytes for the same arguments.

    An image depends on the seed, its part and its place in it only: a longer dataset begins with
    the images of a shorter one.

    Raises:
        InputError: The folder is in use or cannot be written, or a number is out of range.
    """
    _check(root, seed=seed, train=train, val=val, size=size)
    write_text(root / "classes.txt", _lines(CLASSES))
    for part, (name, count) in enumerate({"train": train, "val": val}.items()):
        names = [f"{name}_{place:05d}" for place in range(count)]
        write_text(root / "ImageSets" / "Segmentation" / f"{name}.txt", _lines(names))
        for place, image in enumerate(names):
            source = np.random.SeedSequence(seed, spawn_key=(part, place))
            photograph, labels = make_scene(np.random.default_rng(source), size)
            with replacing(root / "JPEGImages" / f"{image}.jpg", durable=False) as path:
                save_jpeg(path, Image.fromarray(photograph), JPEG_QUALITY, optimize=True)
            with replacing(root / "SegmentationClass" / f"{image}.png", durable=False) as path:
                save_labels(path, labels)


def _check(root: Path, *, seed: int, train: int, val: int, size: int) -> None:
    least = {"seed": (seed, 0), "train": (train, 1), "val": (val, 1), "size": (size, LEAST_SIZE)}
    for name, (value, smallest) in least.items():
        if value < smallest:
            raise InputError(f"`{name}` must be at least {smallest}, got {value}.")
    if root.exists() and not (root.is_dir() and not any(root.iterdir())):
        raise InputError(f"{root} is in use: name a folder that is empty or not yet there.")


def _lines(words: tuple[str, ...] | list[str]) -> str:
    return "".join(f"{word}\n" for word in words)
