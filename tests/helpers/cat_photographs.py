"""Photographs of cats, and the classes of ImageNet that are cats."""

import numpy as np
import torch
from PIL import Image

from tests.helpers import shared_data as shared

CATS = range(281, 286)
"""Tabby, tiger cat, Persian, Siamese, Egyptian: of ImageNet's 1000 classes in their usual order."""
COUNT = 20
SIDE = 224


def photographs():
    """Returns the first photographs that show a cat and nothing else, as 0..255, [b, 3, h, w]."""
    folder = shared.data("voc2012_animals")
    names = (folder / "ImageSets" / "Segmentation" / "val.txt").read_text().split()
    found = []
    for name in names:
        with Image.open(folder / "SegmentationClassAug" / f"{name}.png") as labels:
            if set(np.unique(labels)) - {0, 255} != {8}:
                continue
        with Image.open(folder / "JPEGImages" / f"{name}.jpg") as image:
            found.append(_cropped(image.convert("RGB")))
        if len(found) == COUNT:
            break
    return torch.from_numpy(np.stack(found)).permute(0, 3, 1, 2).float()


def normalised(images, normalization):
    mean, std = (torch.tensor(v)[:, None, None] for v in (normalization.mean, normalization.std))
    return (images / 255 - mean) / std


def _cropped(image):
    scale = 256 / min(image.size)
    width, height = (round(side * scale) for side in image.size)
    left, top = (width - SIDE) // 2, (height - SIDE) // 2
    resized = image.resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(resized.crop((left, top, left + SIDE, top + SIDE)))
