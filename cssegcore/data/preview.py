"""A batch as the network sees it, as a picture: before any hour of training."""

import dataclasses
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image, ImageDraw

from cssegcore.core.files import replacing
from cssegcore.core.normalization import Normalization
from cssegcore.core.palette import palette
from cssegcore.data.augmentation import Augmentation
from cssegcore.data.collate import plan_views, training_batch
from cssegcore.data.dataset import Dataset
from cssegcore.data.image_list import ImageList
from cssegcore.data.image_store import ImageStore
from cssegcore.runtime.distributed import ALONE

UNCHANGED = Normalization((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
"""Leaves values in [0, 1]; a network's own normalisation is none that an eye would see."""
CROP_SIDE, GAP, LINE = 160, 4, 16
"""Pixels of a crop on the picture, between crops, and of a line of text."""
ACROSS = 8
"""Crops beside each other."""


@dataclasses.dataclass(frozen=True)
class FirstBatch:
    """The crops that a step's training begins with.

    Attributes:
        names: Names of the images.
        photographs: The crops.
        labels: Network outputs as annotated for the step, 255 void.
    """

    names: list[str]
    photographs: UInt8[np.ndarray, "b s s 3"]
    labels: UInt8[np.ndarray, "b s s"]


def first_batch(
    dataset: Dataset, image_list: ImageList, augmentation: Augmentation, size: int, seed: int
) -> FirstBatch:
    """Returns the first `size` images of the first epoch, cropped as they will be.

    Images of earlier steps, pseudo-labels and an unknown class are not there yet.

    Args:
        dataset: The dataset of the images.
        image_list: The step's training list.
        augmentation: Crops and changes each image at random.
        size: Images of a batch.
        seed: Seed of the training.

    Raises:
        InputError: An image cannot be read, or is not what the index read.
    """
    rng = np.random.default_rng([seed, image_list.index, 0])
    order = rng.permutation(len(image_list.images))[:size]
    drawn = dataclasses.replace(image_list, images=[image_list.images[at] for at in order])
    store = ImageStore(dataset, drawn)
    places = [(store, at) for at in range(len(store))]
    planned = plan_views(places, augmentation, rng, ALONE)
    samples = [store.sample(at) for at in range(len(store))]
    batch = training_batch(planned, samples, augmentation, torch.device("cpu"), UNCHANGED)
    pixels = (batch.images.permute(0, 2, 3, 1) * 255).round().clamp(0, 255)
    return FirstBatch(
        drawn.names,
        pixels.to(torch.uint8).numpy(),
        batch.annotated.to(torch.uint8).numpy(),
    )


def save_batch(path: Path, batch: FirstBatch, classes: tuple[str, ...]) -> None:
    """Writes a PNG: crops with their labels below, and the colour of each class that is there.

    Args:
        path: The file.
        batch: Crops and labels to show.
        classes: Names of the network's outputs.
    """
    shown = sorted({*np.unique(batch.labels).tolist()})
    names = [classes[label] if label < len(classes) else "void" for label in shown]
    rows = -(-len(batch.names) // ACROSS)
    width = GAP + min(ACROSS, len(batch.names)) * (CROP_SIDE + GAP)
    height = GAP + rows * 2 * (CROP_SIDE + GAP) + LINE * (len(names) + 1)
    sheet = Image.new("RGB", (width, height), "white")
    for at in range(len(batch.names)):
        row, column = divmod(at, ACROSS)
        left, top = GAP + column * (CROP_SIDE + GAP), GAP + row * 2 * (CROP_SIDE + GAP)
        sheet.paste(_tile(batch.photographs[at]), (left, top))
        sheet.paste(_tile(palette()[batch.labels[at]]), (left, top + CROP_SIDE + GAP))
    pen, top = ImageDraw.Draw(sheet), height - LINE * len(names) - GAP
    for label, name in zip(shown, names, strict=True):
        colour = "#" + palette()[label].tobytes().hex()
        pen.rectangle((GAP, top, GAP + LINE - 4, top + LINE - 4), colour, "black")
        pen.text((GAP + LINE + 4, top), name, fill="black")
        top += LINE
    with replacing(path) as temporary:
        sheet.save(temporary, format="PNG")


def _tile(crop: UInt8[np.ndarray, "s s 3"]) -> Image.Image:
    return Image.fromarray(crop).resize((CROP_SIDE, CROP_SIDE), Image.Resampling.NEAREST)
