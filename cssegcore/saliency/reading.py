"""Reads saliency maps: published maps from the dataset, computed maps from the stage's folder.

This module is separate from `maps`, so that a training depends on the maps but not on the program
that computes them.
"""

import dataclasses
from pathlib import Path
from typing import Final, Literal, final

import numpy as np
from jaxtyping import Bool

from cssegcore.core.errors import InputError
from cssegcore.core.files import read_manifest
from cssegcore.data import images
from cssegcore.data.dataset import Dataset

MapSource = Literal["published", "computed"]

REMAKE: Final = "delete its folder and run `dvc repro`"
COMPUTE: Final = "fix it, or set `maps: computed` in `method.base.unknown_class`"


@final
@dataclasses.dataclass(frozen=True)
class Maps:
    """The maps that a manifest lists.

    Attributes:
        out: Folder of the manifest and of computed maps.
        dataset: The photographs and published maps.
        source: Whether maps are `published` or `computed`.
        images: Names of the images that have a map.
    """

    out: Path
    dataset: Dataset
    source: MapSource
    images: frozenset[str]

    @classmethod
    def open(cls, out: Path, dataset: Dataset) -> "Maps":
        """Reads the manifest in the folder `out`.

        Raises:
            InputError: The manifest is missing or not JSON.
        """
        manifest = read_manifest(out, "source", "images")
        return cls(out, dataset, manifest["source"], frozenset(manifest["images"]))

    def of(self, name: str) -> Bool[np.ndarray, "h w"]:
        """Returns the mask of the salient pixels of photograph `name`: its map is not 0 there.

        Raises:
            InputError: The map is not listed, missing, unreadable or of another size.
        """
        if name not in self.images:
            raise InputError(f"{self.out} lists no saliency map of {name!r}: {REMAKE}.")
        if self.source == "published":
            return read_published(self.dataset, name)
        return _read(self.out / f"{name}.png", self.dataset.image_size(name), REMAKE)


def read_published(dataset: Dataset, name: str) -> Bool[np.ndarray, "h w"]:
    """Reads a map that is published with the dataset.

    Raises:
        InputError: The map is missing, unreadable or of another size.
    """
    return _read(dataset.layout.saliency(dataset.root, name), dataset.image_size(name), COMPUTE)


def _read(path: Path, shape: tuple[int, int], way_out: str) -> Bool[np.ndarray, "h w"]:
    if not path.exists():
        raise InputError(f"saliency map {path} does not exist: {way_out}.")
    what = "saliency map"
    salient = images.labels(images.read(path, what), path, what, way_out)
    if salient.shape != shape:
        raise InputError(
            f"{what} {path} is {salient.shape[1]}x{salient.shape[0]} pixels, its photograph"
            f" {shape[1]}x{shape[0]}: {way_out}."
        )
    return salient > 0
