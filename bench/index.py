"""What the index and the lists of Pascal VOC cost, and what the published way to them costs.

    python -m bench.index --labels labels.tar --lists train_aug.txt val.txt [--out figures.json]

The archive holds SegmentationClassAug/NAME.png. Photographs are not needed: one JPEG is drawn
for every size of label image, of a photograph's number of bytes, and stands for all of that size.
All files are in the system's cache when the clock starts, so reading from a disk is not measured.

fcdl94/MiB, LTTM/SDR and arthurdouillard/CVPR2021_PLOP (dataset/utils.py, filter_images) open every
label image again for every list of every step, where no file of indices lies ready, and look for
its labels with `np.unique`. Their dataset decodes the photograph as well, to no use; that is left
out.
"""

import argparse
import json
import os
import resource
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

from cssegcore.data.dataset import Dataset, open_dataset
from cssegcore.data.index import Entry, build_index, read_index, write_index
from cssegcore.scenario.scenario import Scenario
from cssegcore.scenario.splits import write_splits

CONF = Path("conf")
SCENARIO = "voc/15-1"
QUALITY = 85


def draw_photograph(path: Path, size: tuple[int, int]) -> None:
    """Saves a JPEG as large as VOC's photographs are on average, about 0.6 bytes a pixel."""
    rng = np.random.default_rng(size)
    width, height = size
    smooth = Image.fromarray(rng.integers(0, 256, (8, 10, 3), np.uint8)).resize(size)
    noise = rng.normal(0, 38, (height, width, 1))
    pixels = (np.asarray(smooth, np.float64) + noise).clip(0, 255).astype(np.uint8)
    Image.fromarray(pixels).save(path, quality=QUALITY)


def lay_out(root: Path, labels: Path, lists: list[Path]) -> Dataset:
    """Writes the dataset below `root`."""
    with tarfile.open(labels) as archive:
        archive.extractall(root, filter="data")
    (root / "splits").mkdir()
    (root / "JPEGImages").mkdir()
    for name, given in zip(("train_aug", "val"), lists, strict=True):
        (root / "splits" / f"{name}.txt").write_bytes(given.read_bytes())
    settings = yaml.safe_load((CONF / "dataset" / "voc.yaml").read_text(encoding="utf-8"))
    dataset = open_dataset(settings | {"root": str(root)})
    for name in (*dataset.names("train"), *dataset.names("val")):
        with Image.open(dataset.label_path(name)) as image:
            drawn = root / "{}x{}.jpg".format(*image.size)
            if not drawn.exists():
                draw_photograph(drawn, image.size)
        dataset.photograph_path(name).hardlink_to(drawn)
    return dataset


def whole(items: Iterable[Entry], _: int) -> Iterable[Entry]:
    """Shows no progress."""
    return items


def seconds(work: Callable[[], object]) -> tuple[float, float]:
    """Returns how long `work` takes, and how long processors are busy with it."""
    start, busy = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - start, time.process_time() - busy


def peak() -> float:
    """Returns the most memory that the process has held so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def split(table: Path, out: Path) -> list[int]:
    """Writes the lists of the scenario and returns the number of training images of each step."""
    entries, classes = read_index(table)
    text = (CONF / "scenario" / f"{SCENARIO}.yaml").read_text(encoding="utf-8")
    steps = yaml.safe_load(text)["scenario"]["classes"]
    scenario = Scenario.of("overlapped", classes, steps)
    counts = write_splits(out, scenario, entries, classes, shared=True)  # photographs are drawn
    return [kinds["train"] for kinds in counts.values()]


def published(dataset: Dataset, names: list[str], wanted: set[int]) -> list[str]:
    """Filters images as the published code does, one by one."""
    chosen = []
    for name in names:
        with Image.open(dataset.label_path(name)) as image:
            if wanted & set(np.unique(np.array(image)).tolist()):
                chosen.append(name)
    return chosen


def measure(dataset: Dataset, work: Path, sample: int) -> dict[str, float]:
    """Runs everything once."""
    figures: dict[str, float] = {"MiB before": peak()}
    table, entries = work / "index.csv", []
    figures["index"], figures["index, busy"] = seconds(
        lambda: entries.extend(build_index(dataset, whole))
    )
    write_index(table, entries, dataset.classes)
    figures["MiB"] = peak()
    figures["images"] = len(entries)
    train: list[int] = []
    figures["split"], figures["split, busy"] = seconds(
        lambda: train.extend(split(table, work / "split"))
    )
    names = [entry.name for entry in entries[:: max(1, len(entries) // sample)]]
    figures["sample"] = len(names)
    wall, busy = seconds(lambda: published(dataset, names, {16}))
    figures["published, one image"] = wall / len(names)
    figures["published, one image, busy"] = busy / len(names)
    opened = len(train) * (len(dataset.names("train")) + 2 * len(dataset.names("val")))
    figures["published, images opened"] = opened
    return figures


def main() -> None:
    """Measures and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--labels", type=Path, required=True, help="tar of SegmentationClassAug")
    parser.add_argument("--lists", type=Path, required=True, nargs=2, help="train_aug.txt val.txt")
    parser.add_argument("--sample", type=int, default=500, help="label images opened one by one")
    parser.add_argument("--out", type=Path, help="JSON to write")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        dataset = lay_out(Path(folder) / "voc", given.labels, given.lists)
        figures = measure(dataset, Path(folder), given.sample)
    figures["cores"] = len(os.sched_getaffinity(0))
    each, opened = figures["published, one image"], figures["published, images opened"]
    busy = figures["published, one image, busy"]
    print(f"{figures['cores']:.0f} cores, {figures['images']:.0f} images, {SCENARIO} overlapped\n")
    print(f"{'':36}{'seconds':>10}{'of CPU':>10}")
    print(f"{'index':36}{figures['index']:10.1f}{figures['index, busy']:10.1f}")
    print(f"{'lists of all steps':36}{figures['split']:10.2f}{figures['split, busy']:10.2f}")
    print(f"{'published way to them, reckoned':36}{each * opened:10.1f}{busy * opened:10.1f}\n")
    print(f"peak memory {figures['MiB']:.0f} MiB, {figures['MiB before']:.0f} before")
    print(
        f"published way: {opened:.0f} label images opened, {1000 * busy:.1f} ms of CPU each by a"
        f" sample of {figures['sample']:.0f}"
    )
    if given.out:
        given.out.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
