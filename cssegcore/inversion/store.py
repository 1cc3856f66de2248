"""Files of generated images: how a synthesis writes them and how a training reads them back."""

import dataclasses
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import final

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from cssegcore.core.class_table import ClassTable
from cssegcore.core.files import digest, read_manifest, replacing
from cssegcore.core.palette import save_labels
from cssegcore.data.dataset import Dataset
from cssegcore.data.image_list import ImageList
from cssegcore.data.images import labels, photograph, read
from cssegcore.data.layouts import Layout
from cssegcore.data.layouts._base import Split
from cssegcore.inversion.request import GeneratedImages

KINDS = ("images", "labels", "confidence", "layouts")
"""Folders of PNG files; `layouts` holds the label maps that the images were generated from."""
LIST = "list.json"


@dataclasses.dataclass(frozen=True)
class GeneratedImage:
    """One generated image.

    Attributes:
        name: Stem of its file names.
        image: RGB values from 0 to 255.
        labels: Network outputs that the teacher predicts; 255 where it is not confident.
        confidence: The largest probability; 255 is probability 1.
        label_map: The class asked for at each pixel; 255 everywhere if there was no label map.
    """

    name: str
    image: UInt8[np.ndarray, "s s 3"]
    labels: UInt8[np.ndarray, "s s"]
    confidence: UInt8[np.ndarray, "s s"]
    label_map: UInt8[np.ndarray, "s s"]


def file_stems(names: Sequence[str]) -> list[str]:
    """Returns a distinct file stem for each name; unusual characters become dashes."""
    plain = ["".join(c if c.isalnum() or c in "-_" else "-" for c in name) for name in names]
    return [f"{stem}-{at}" if stem in plain[:at] else stem for at, stem in enumerate(plain)]


def write_image(folder: Path, generated: GeneratedImage) -> list[str]:
    """Writes `KIND/NAME.png` for each kind; returns the name and a digest as the index has it."""
    content = {}
    for kind in KINDS:
        with replacing(folder / kind / f"{generated.name}.png", durable=False) as path:
            if kind in ("labels", "layouts"):
                save_labels(path, generated.labels if kind == "labels" else generated.label_map)
            else:
                values = generated.image if kind == "images" else generated.confidence
                Image.fromarray(values).save(path, format="PNG")
            content[kind] = path.read_bytes()
    return [generated.name, digest(content["images"], content["labels"])]


def read_image(folder: Path, name: str) -> GeneratedImage:
    """Reads an image that `write_image` wrote.

    Raises:
        InputError: A file of it is missing or damaged.
    """
    image, *maps = (folder / kind / f"{name}.png" for kind in KINDS)
    shown = photograph(read(image, "photograph"), image)
    return GeneratedImage(name, shown, *(labels(read(path, "label image"), path) for path in maps))


def image_list(current: ImageList, known: int, images: list[list[str]]) -> ImageList:
    """Returns the list of generated images for a step whose previous model has `known` outputs.

    Labels are network outputs, so the raw label of a class is its output.
    """
    outputs = iter(range(len(current.classes.names)))
    raw = [list(itertools.islice(outputs, size)) for size in current.classes.sizes]
    classes = ClassTable.of(current.classes.names_by_step, raw)
    visible = list(range(1, known))
    return dataclasses.replace(current, classes=classes, visible=visible, images=images, ignored=[])


def open_images(folder: Path) -> GeneratedImages | None:
    """Returns the generated images below a folder; None if it has none.

    Raises:
        InputError: The list or the manifest is damaged.
    """
    path = folder / LIST
    if not path.exists():
        return None
    image_list, steps = ImageList.read(path), read_manifest(folder, "steps")["steps"]
    by_name = {name: at for at, step in enumerate(steps) for name in step["images"]}
    return GeneratedImages(
        dataset=Dataset("made images", folder, _Files(), image_list.classes.names),
        image_list=image_list,
        teachers=[teacher_path(folder, step["step"]) for step in steps],
        sources=np.array([by_name[name] for name in image_list.names]),
    )


def teacher_path(folder: Path, step: str) -> Path:
    """Returns the path of a copy of the step's model, from which images below `folder` come."""
    return folder / "models" / f"{step}.safetensors"


@final
@dataclasses.dataclass(frozen=True)
class _Files(Layout):
    """`images/NAME.png` and `labels/NAME.png`."""

    def names(self, root: Path, split: Split) -> list[str]:
        del split
        return ImageList.read(root / LIST).names

    def photograph(self, root: Path, name: str) -> Path:
        return root / "images" / f"{name}.png"

    def label(self, root: Path, name: str) -> Path:
        return root / "labels" / f"{name}.png"
