"""The animals: a part of Pascal VOC 2012, made small, so that a CPU trains on real photographs.

The names stand in lists/animals/; photographs come from the VOC that the user has.
"""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from cssegcore.core.errors import InputError
from cssegcore.core.types import Progress

from .home import INSTALLED, invocation, shipped

if TYPE_CHECKING:
    from cssegcore.data.dataset import Dataset

NAMES: Final = (shipped("lists") if INSTALLED else Path("lists")) / "animals"
PARTS: Final = ("train", "val", "test")
LONGEST: Final = 320
"""Pixels of the longer side."""
QUALITY: Final = 85
"""Of the JPEGs."""
LABELS: Final = "60d316ffd3181764c914e69baf5d613b79ceaa4b4ca4649811cf6e7c8a272965"
"""SHA-256 of all label images' names, sizes and pixels, in the order of their names."""


def make_animals(voc: "Dataset", root: Path, progress: Progress) -> None:
    """Writes the dataset in VOC's layout; what lies there already stays.

    What is at most 320 pixels long is copied. Larger photographs are made as small by Lanczos'
    filter, label images by the nearest pixel.

    Args:
        voc: Pascal VOC 2012 with the labels of SBD, or animals made before.
        root: The folder to write.
        progress: Wraps an iterable with one item an image (second argument: their number).

    Raises:
        InputError: VOC lacks an image, a file cannot be read, none can be written, or lists with
            other names are there.
    """
    from cssegcore.core.files import write_text
    from cssegcore.data.layouts._base import read_names

    lists = {part: read_names(NAMES / f"{part}.txt") for part in PARTS}
    names = [name for part in PARTS for name in lists[part]]
    files = [path(name) for name in names for path in (voc.photograph_path, voc.label_path)]
    if missing := [path for path in files if not path.is_file()]:
        raise InputError(
            f"--from {voc.root} lacks {len(missing)} of the {len(files)} photographs and label"
            f" images, the first is {missing[0]}: complete it with `{invocation('fetch')} voc`."
        )
    texts = {
        root / "ImageSets" / "Segmentation" / f"{part}.txt": "".join(f"{n}\n" for n in lists[part])
        for part in PARTS
    }
    for path, text in texts.items():
        if path.exists() and path.read_bytes() != text.encode():
            raise InputError(
                f"{path} is there with other names, and nothing is overwritten: name an empty"
                " folder with --root."
            )
    with ThreadPoolExecutor(2) as pool:
        list(progress(pool.map(lambda name: _make(voc, root, name), names), len(names)))
    for path, text in texts.items():
        if not path.exists():
            write_text(path, text)


def _make(voc: "Dataset", root: Path, name: str) -> None:
    from PIL import Image

    from cssegcore.core.files import replacing
    from cssegcore.core.jpeg import save_jpeg
    from cssegcore.core.palette import save_labels

    photograph = root / "JPEGImages" / f"{name}.jpg"
    label = root / "SegmentationClassAug" / f"{name}.png"
    height, width = voc.image_size(name)
    size = small_size(width, height)
    if not photograph.exists():
        with replacing(photograph, durable=False) as temporary:
            if size == (width, height):
                temporary.write_bytes(voc.photograph_path(name).read_bytes())
            else:
                image = Image.fromarray(voc.photograph(name))
                small = image.resize(size, Image.Resampling.LANCZOS)
                save_jpeg(temporary, small, QUALITY)
    if not label.exists():
        small = Image.fromarray(voc.label(name)).resize(size, Image.Resampling.NEAREST)
        with replacing(label, durable=False) as temporary:
            save_labels(temporary, np.asarray(small))


def small_size(width: int, height: int) -> tuple[int, int]:
    """Returns width and height with the longer one at 320, or as they are if it is less.

    >>> small_size(500, 375), small_size(182, 250)
    ((320, 240), (182, 250))
    """
    longer = max(width, height, LONGEST)
    return round(width * LONGEST / longer), round(height * LONGEST / longer)


def check_labels(dataset: "Dataset") -> None:
    """Makes sure that the label images are those of the benchmark, pixel by pixel.

    Raises:
        InputError: They are not.
    """
    sha = hashlib.sha256()
    for name in sorted(name for part in PARTS for name in dataset.names(part)):
        labels = dataset.label(name)
        sha.update(f"{name} {labels.shape[1]} {labels.shape[0]}\n".encode())
        sha.update(labels.tobytes())
    if sha.hexdigest() != LABELS:
        raise InputError(
            f"the label images below {dataset.root} are not those of the benchmark: make them from"
            f" SegmentationClassAug, whose 12,031 label images `{invocation('fetch')} voc` names,"
            " into an empty folder."
        )
