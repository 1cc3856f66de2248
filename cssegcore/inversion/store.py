"""Made images on disk: what is written beside each, and how a step reads them back."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import final

import numpy as np
from jaxtyping import Int, UInt8
from PIL import Image

from cssegcore.core.files import digest, read_manifest, replacing
from cssegcore.core.palette import save_labels
from cssegcore.data.dataset import Dataset
from cssegcore.data.layouts import Layout
from cssegcore.data.layouts._base import Split
from cssegcore.scenario.scenario import StepList

KINDS = ("images", "labels", "confidence", "layouts")
LIST = "list.json"


@dataclasses.dataclass(frozen=True)
class Made:
    """One made image.

    Attributes:
        name: Of its files.
        image: Photograph values.
        labels: Network classes as the inverted model sees them, 255 where it is not sure.
        confidence: The largest probability, 255 standing for 1.
        layout: What was asked for; 255 everywhere if only a class was.
    """

    name: str
    image: UInt8[np.ndarray, "s s 3"]
    labels: UInt8[np.ndarray, "s s"]
    confidence: UInt8[np.ndarray, "s s"]
    layout: UInt8[np.ndarray, "s s"]


def file_stems(names: Sequence[str]) -> list[str]:
    """Returns different names for files: what a path or a shell may take amiss is a dash."""
    plain = ["".join(c if c.isalnum() or c in "-_" else "-" for c in name) for name in names]
    return [f"{stem}-{at}" if stem in plain[:at] else stem for at, stem in enumerate(plain)]


@dataclasses.dataclass(frozen=True)
class Opened:
    """Made images as a dataset.

    Attributes:
        dataset: Its photographs and labels.
        image_list: The list of all of them.
        teachers: Files of the models that made them, oldest first.
        sources: Which of these made each image of the list.
    """

    dataset: Dataset
    image_list: StepList
    teachers: list[Path]
    sources: Int[np.ndarray, " n"]


def write(folder: Path, made: Made) -> list[str]:
    """Writes `KIND/NAME.png` for each kind; returns the name and a digest as the index has it."""
    content = {}
    for kind in KINDS:
        with replacing(folder / kind / f"{made.name}.png", durable=False) as path:
            if kind in ("labels", "layouts"):
                save_labels(path, made.labels if kind == "labels" else made.layout)
            else:
                values = made.image if kind == "images" else made.confidence
                Image.fromarray(values).save(path, format="PNG")
            content[kind] = path.read_bytes()
    return [made.name, digest(content["images"], content["labels"])]


def listed(current: StepList, known: int, images: list[list[str]]) -> StepList:
    """Returns the list of made images for a step whose previous model knows `known` classes.

    Labels are network classes, so a class is its own raw label.
    """
    sizes = [len(names) for names in current.classes]
    starts = np.cumsum([0, *sizes]).tolist()
    raw = [list(range(at, at + size)) for at, size in zip(starts, sizes, strict=False)]
    return dataclasses.replace(current, raw=raw, visible=list(range(1, known)), images=images)


def opened(folder: Path) -> Opened | None:
    """Returns the made images; nothing if there are none.

    Raises:
        InputError: The list or the manifest is damaged.
    """
    path = folder / LIST
    if not path.exists():
        return None
    image_list, steps = StepList.read(path), read_manifest(folder, "steps")["steps"]
    classes = tuple(name for step in image_list.classes for name in step)
    by_name = {name: at for at, step in enumerate(steps) for name in step["images"]}
    return Opened(
        dataset=Dataset("made images", folder, _Files(), classes),
        image_list=image_list,
        teachers=[teacher(folder, step["step"]) for step in steps],
        sources=np.array([by_name[name] for name in image_list.names]),
    )


def teacher(folder: Path, step: str) -> Path:
    """Returns where the model that made images lies: beside them, as it was."""
    return folder / "models" / f"{step}.safetensors"


@final
@dataclasses.dataclass(frozen=True)
class _Files(Layout):
    """`images/NAME.png` and `labels/NAME.png`."""

    def names(self, root: Path, split: Split) -> list[str]:
        del split
        return StepList.read(root / LIST).names

    def photograph(self, root: Path, name: str) -> Path:
        return root / "images" / f"{name}.png"

    def label(self, root: Path, name: str) -> Path:
        return root / "labels" / f"{name}.png"
