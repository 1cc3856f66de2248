"""Whether images come as fast as a training wants them: the batch path alone, and training alone.

    python -m bench.loader [-S model=deeplabv3_r101 …] [--photographs 375x500] [--batch-sizes 8 24]

Rates in images a second: looking at a step's images, which decodes each once before the step; views
cut in every iteration, by batch and size of the crop, out of images that are kept decoded, and out
of images that are read and decoded for each view, as beyond `CSSEGCORE_MEMORY`; and fine-tuning
with the same configuration, its batches ready. On a CPU, where a batch is cut when the one before
it is done, the share of a step's time that images take follows; on a GPU, where the next batch is
made meanwhile, whether they are ever waited for. With `--photographs` images of that height and
width are drawn to replace the embedded ones. With `--processor` a rate is that of one core, and
`--cores` of it are set against the `--rate` of a GPU.
"""

import argparse
import dataclasses
import functools
import itertools
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from bench._device import Clock
from bench.index import draw_photograph
from bench.sweep import composed
from bench.train_step import prepared, timed
from cssegcore.data.batches import iterations, training_batches
from cssegcore.data.dataset import open_dataset
from cssegcore.data.image_list import ImageList
from cssegcore.data.image_store import ImageStore
from cssegcore.runtime.memory import MemoryBudget
from cssegcore.training.trainer import Trainer
from stages.common.params import read_params

STEP = "step1"
KEPT, READ = "kept decoded", "read again"


def draw_dataset(root: Path, size: tuple[int, int], count: int, classes: list[str]) -> None:
    """Writes a dataset of `count` photographs of (height, width), all classes in each."""
    lists = root / "ImageSets" / "Segmentation"
    for folder in (root / "JPEGImages", root / "SegmentationClass", lists):
        folder.mkdir(parents=True)
    height, width = size
    columns = np.arange(width) * (len(classes) + 1) // width
    labels = np.broadcast_to(columns.astype(np.uint8), size)
    draw_photograph(root / "photograph.jpg", (width, height))
    Image.fromarray(labels.copy()).save(root / "labels.png")
    names = [f"{at:06}" for at in range(count)]
    for name in [*names, "test"]:
        (root / "JPEGImages" / f"{name}.jpg").hardlink_to(root / "photograph.jpg")
        (root / "SegmentationClass" / f"{name}.png").hardlink_to(root / "labels.png")
    (lists / "train.txt").write_text("\n".join(names))
    (lists / "val.txt").write_text("test")
    (root / "classes.txt").write_text("\n".join(["background", *classes]))


def decoding_rate(folder: Path, clock: Clock) -> float:
    """Looks at the step's images as before a training; returns how many a second."""
    images = found(folder)
    return len(images) / clock.seconds(lambda: images.keep(MemoryBudget(0)))


def found(folder: Path) -> ImageStore:
    """Returns the step's images, none of which is kept."""
    dataset = open_dataset(read_params(folder / "params.yaml").dataset)
    return ImageStore(dataset, ImageList.read(folder / STEP / "train.json"))


def cut_views(trainer: Trainer, images: ImageStore, batch: int, size: int) -> None:
    """Cuts the views of an epoch."""
    crop = trainer.augmentation.crop
    assert dataclasses.is_dataclass(crop)
    views = dataclasses.replace(trainer.augmentation, crop=dataclasses.replace(crop, size=size))
    rng, normalization = np.random.default_rng(0), trainer.segmenter.normalization
    for _ in training_batches(images, views, batch, rng, trainer.device, normalization):
        pass


def measure(
    trainer: Trainer, clock: Clock, given: argparse.Namespace, folder: Path
) -> dict[str, Any]:
    """Returns the rates of views, the configured ones first, and of training; they take turns."""
    batch, size, resume = trainer.optimizer.batch_size, trainer.augmentation.size, folder / "r.pt"
    stores = {KEPT: trainer.data.images, READ: found(folder / "ft")}
    trainer.data.images.keep(MemoryBudget(2**62))
    kinds = itertools.product(stores, (batch, *given.batch_sizes), (size, *given.sizes))
    cut: dict[tuple[str, int, int], list[float]] = {kind: [] for kind in kinds}
    trained: list[float] = []
    for turn in range(given.turns + 1):
        for (how, *kind), taken in cut.items():
            cutting = functools.partial(cut_views, trainer, stores[how], *kind)
            seconds = clock.seconds(cutting)
            taken += [seconds] if turn else []
        seconds = timed(trainer, clock, given.iterations, resume)
        trained += seconds if turn else []  # the first turn warms up
    images = trainer.data.images
    views = {
        f"{how}, batch {b}, {s} x {s}": min(b, len(images))
        * iterations(images, b)
        / statistics.median(t)
        for (how, b, s), t in cut.items()
    }
    return {"views": views, "training": min(batch, len(images)) / statistics.median(trained)}


def arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-S", "--set", action="append", default=[], help="Hydra override")
    parser.add_argument("--photographs", help="height x width of images to draw, e.g. 375x500")
    parser.add_argument("--count", type=int, default=48, help="of images to draw")
    beside = {"type": int, "nargs": "+", "default": [], "help": "beside the configured one"}
    parser.add_argument("--batch-sizes", **beside)
    parser.add_argument("--sizes", **beside)
    parser.add_argument("--iterations", type=int, default=5, help="of the training's turn")
    parser.add_argument("--turns", type=int, default=5, help="after one to warm up")
    parser.add_argument("--cores", type=int, default=16, help="beside a GPU, by arithmetic")
    parser.add_argument("--rate", type=float, default=150.0, help="images/s of the GPU's training")
    parser.add_argument("--out", type=Path, help="JSON to write")
    Clock.add_to(parser)
    return parser.parse_args()


def main() -> None:
    """Prints the rates, and how much faster views are than training."""
    given = arguments()
    clock = Clock.of(given)
    with tempfile.TemporaryDirectory() as name:
        folder, overrides = Path(name), list(given.set)
        if given.photographs:
            steps = composed(overrides)["scenario"]["classes"].values()
            classes = [name for learned in steps for name in learned]
            height, width = map(int, given.photographs.split("x"))
            draw_dataset(folder / "drawn", (height, width), given.count, classes)
            overrides.append(f"dataset.root={folder / 'drawn'}")
        trainer = prepared("ft", overrides, folder / "ft", clock.device)
        decoded = decoding_rate(folder / "ft", clock)
        figures = measure(trainer, clock, given, folder)
    drawn = f", drawn, {given.photographs}" if given.photographs else ""
    print(f"{clock.machine}; {len(trainer.data.images)} images{drawn} {' '.join(given.set)}\n")
    training = figures["training"]
    rates = {"looked at, once a step": decoded, **figures["views"], "training": training}
    print(f"{'images a second':36}{'rate':>10}")
    for name, rate in rates.items():
        print(f"{name:36}{rate:10.1f}")
    print()
    for how in (KEPT, READ):
        rate = next(rate for name, rate in figures["views"].items() if name.startswith(how))
        print(f"{how}: views come {rate / training:.1f} times as fast as training goes", end="")
        ahead = f"; {given.cores} cores: {given.cores * rate / given.rate:.1f} times {given.rate:g}"
        print(f"{ahead} images/s" if given.processor else "")
    if given.out:
        content = {"machine": clock.machine, "decoded": decoded, **figures}
        given.out.write_text(json.dumps(content, indent=1))


if __name__ == "__main__":
    main()
