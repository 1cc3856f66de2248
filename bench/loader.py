"""Whether images come as fast as a training wants them: the batch path alone, and training alone.

    python -m bench.loader [-S model=deeplabv3_r101 …] [--photographs 375x500] [--batch-sizes 8 24]

Three rates, in images a second: decoding a step's images into memory, once a step; views cut out of
them in every iteration, by batch and size of the crop; and fine-tuning with the same configuration,
its batches ready. On a CPU, where a batch is cut when the one before it is done, the share of a
step's time that images take follows from the last two; on a GPU, where the next batch is made
meanwhile, whether they are ever waited for. With `--photographs` images of that height and width
are drawn to replace the embedded ones.
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
from cssegcore.training.trainer import Trainer
from stages.common.params import read_params

STEP = "step1"


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
    for name in names:
        (root / "JPEGImages" / f"{name}.jpg").hardlink_to(root / "photograph.jpg")
        (root / "SegmentationClass" / f"{name}.png").hardlink_to(root / "labels.png")
    for part in ("train", "val"):
        (lists / f"{part}.txt").write_text("\n".join(names))
    (root / "classes.txt").write_text("\n".join(["background", *classes]))


def decoding_rate(folder: Path, clock: Clock) -> float:
    """Decodes the step's images; returns how many a second."""
    dataset = open_dataset(read_params(folder / "params.yaml").dataset)
    image_list = ImageList.read(folder / STEP / "train.json")
    return len(image_list.images) / clock.seconds(lambda: ImageStore(dataset, image_list))


def cut_views(trainer: Trainer, batch: int, size: int) -> None:
    """Cuts the views of an epoch."""
    crop = trainer.augmentation.crop
    assert dataclasses.is_dataclass(crop)
    views = dataclasses.replace(trainer.augmentation, crop=dataclasses.replace(crop, size=size))
    rng, normalization = np.random.default_rng(0), trainer.segmenter.normalization
    images = trainer.data.images
    for _ in training_batches(images, views, batch, rng, trainer.device, normalization):
        pass


def measure(
    trainer: Trainer, clock: Clock, given: argparse.Namespace, resume: Path
) -> dict[str, Any]:
    """Returns the rates of views, the configured ones first, and of training; they take turns."""
    images, batch, size = (
        trainer.data.images,
        trainer.optimizer.batch_size,
        trainer.augmentation.size,
    )
    kinds = itertools.product((batch, *given.batch_sizes), (size, *given.sizes))
    cut: dict[tuple[int, int], list[float]] = {kind: [] for kind in kinds}
    trained: list[float] = []
    for turn in range(given.turns + 1):
        for kind, taken in cut.items():
            seconds = clock.seconds(functools.partial(cut_views, trainer, *kind))
            taken += [seconds] if turn else []
        seconds = timed(trainer, clock, given.iterations, resume)
        trained += seconds if turn else []  # the first turn warms up
    views = {
        f"batch {b}, {s} x {s}": min(b, len(images)) * iterations(images, b) / statistics.median(t)
        for (b, s), t in cut.items()
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
        figures = measure(trainer, clock, given, folder / "resume.pt")
    drawn = f", drawn, {given.photographs}" if given.photographs else ""
    print(f"{clock.machine}; {len(trainer.data.images)} images{drawn} {' '.join(given.set)}\n")
    configured, training = next(iter(figures["views"].values())), figures["training"]
    rates = {"decoded, once a step": decoded, **figures["views"], "training": training}
    print(f"{'images a second':24}{'rate':>10}")
    for name, rate in rates.items():
        print(f"{name:24}{rate:10.1f}")
    print(f"\nas configured, views come {configured / training:.1f} times as fast as training goes")
    if given.out:
        content = {"machine": clock.machine, "decoded": decoded, **figures}
        given.out.write_text(json.dumps(content, indent=1))


if __name__ == "__main__":
    main()
