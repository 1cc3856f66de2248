"""How much memory stages take for many images: index, split, an epoch's batches, evaluation.

    python -m bench.memory [--photographs 20210] [--streets 2975] [--processes 1 2] [--budget 1]

Draws two trees in a temporary folder, as many photographs of 683 x 512 as ADE20K has and as many of
2048 x 1024 as Cityscapes; most are hard links of a few hundred files, so they cost no disk (and the
system has the files in memory, which is not measured). A third tree, of a batch of 96 x 96, stands
for network and libraries, which are what a stage takes anyway; the table has the whole and, in
brackets, what is beyond that. It is the peak of the sum over the processes of a stage, in which a
page that several share counts once (PSS), sampled five times a second.

Index and split are the stages. For batches and evaluation, processes do with the images what those
of `train` and `evaluate` do: every image of the base step is decoded once, then `--batches` of an
epoch are cut, at random places of the whole list; a network with fresh weights is tested on
`--tests` images. `--budget` sets CSSEGCORE_MEMORY.
"""

import argparse
import contextlib
import itertools
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from bench.index import draw_photograph
from bench.sweep import composed

SMALL = ("stem=[8,8]", "widths=[8,8,8]")
CONFIGURED = (
    "method=ft",
    "scenario=shapes/4-2",
    "evaluation.shared=allow",  # all photographs are one
    "optimizer.batch_size=24",
    "augmentation.size=512",
    "model.depth=8",
    *(f"model.backbone.{number}" for number in SMALL),
)
FEW = "a batch of 96 x 96"
STEP = "step0"
TICK = 0.2
"""Seconds between two looks at the memory."""


def draw_tree(root: Path, size: tuple[int, int], parts: dict[str, int], different: int) -> None:
    """Writes photographs of (height, width) in VOC's layout, all classes in each.

    The first `different` of each part are files of their own; the others are links to them.
    """
    learned = composed([*CONFIGURED])["scenario"]["classes"].values()
    classes = ["background", *(name for names in learned for name in names)]
    photographs, labels = root / "JPEGImages", root / "SegmentationClass"
    lists = root / "ImageSets" / "Segmentation"
    for folder in (photographs, labels, lists):
        folder.mkdir(parents=True)
    rng, (height, width) = np.random.default_rng(1), size
    draw_photograph(root / "drawn.jpg", (width, height))
    for part, count in parts.items():
        names = [f"{part}{at:06}" for at in range(count)]
        (lists / f"{part}.txt").write_text("\n".join(names))
        for name in names[:different]:
            shutil.copy(root / "drawn.jpg", photographs / f"{name}.jpg")
            blocks = rng.integers(0, len(classes), (8, 10), np.uint8)
            blocks.flat[: len(classes)] = rng.permutation(len(classes))
            image = Image.fromarray(blocks).resize((width, height), Image.Resampling.NEAREST)
            image.save(labels / f"{name}.png")
        for at, name in enumerate(names[different:]):
            first = names[at % different]
            (photographs / f"{name}.jpg").hardlink_to(photographs / f"{first}.jpg")
            (labels / f"{name}.png").hardlink_to(labels / f"{first}.png")
    (root / "classes.txt").write_text("\n".join(classes))


def peak(commands: Sequence[tuple[list[str], dict[str, str]]], folder: Path) -> float:
    """Runs commands side by side and returns the most MiB that they held together.

    Raises:
        SystemExit: One of them failed; it has said why.
    """
    running = [
        subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": str(Path.cwd()), "CSSEGCORE_TRACKING": "off"} | more,
            stdout=subprocess.DEVNULL,
        )
        for command, more in commands
    ]
    most = 0
    while any(process.poll() is None for process in running):
        most = max(most, sum(proportional(process.pid) for process in running))
        if any(process.returncode for process in running):
            for process in running:
                process.kill()
            raise SystemExit(f"error: `{' '.join(commands[0][0])}` failed.")
        time.sleep(TICK)
    return most / 2**10


def proportional(pid: int) -> int:
    """Returns the KiB that a process holds, its part of shared pages; 0 if it has ended."""
    with contextlib.suppress(OSError):
        for row in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if row.startswith("Pss:"):
                return int(row.split()[1])
    return 0


def shares(what: str, processes: int, batches: int) -> Iterator[tuple[list[str], dict[str, str]]]:
    """Yields the commands of the processes that do a part of the work each."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    group = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1"}
    for rank in range(processes):
        place = {f"{local}{key}": str(value)
                 for local in ("", "LOCAL_")
                 for key, value in (("RANK", rank), ("WORLD_SIZE", processes))}  # fmt: skip
        command = ["bench.memory", "--work", what, "--batches", str(batches)]
        yield command, group | (place if processes > 1 else {})


def measure(root: Path, folder: Path, given: argparse.Namespace) -> dict[tuple[str, int], float]:
    """Returns MiB by stage and number of processes, of a tree."""
    folder.mkdir()
    overrides = [*CONFIGURED, *given.set, f"dataset.root={root}"]
    told: dict[tuple[str, int], float] = {}
    compose = ["stages.compose", str(folder / "params.yaml"), *overrides]
    subprocess.run([sys.executable, "-m", *compose], check=True)

    def note(what: str, processes: int, *commands: tuple[list[str], dict[str, str]]) -> None:
        told[what, processes] = peak(commands, folder)
        print(f"  {what}, {processes}: {told[what, processes]:.0f} MiB", flush=True)

    note("index", 1, (["stages.index", "work/index.csv"], {}))
    note("split", 1, (["stages.split", "work/index.csv", "work/split"], {}))
    for what in ("batches", "evaluation"):
        for processes in given.processes:
            note(what, processes, *shares(what, processes, given.batches))
    return told


def work(what: str, count: int) -> None:
    """Does a process's part of an epoch's batches, or of a test, in the current folder."""
    from bench.train_step import plan
    from cssegcore.data.dataset import open_dataset
    from cssegcore.data.image_list import ImageList
    from cssegcore.data.image_store import ImageStore
    from cssegcore.evaluation.evaluate import count_confusion
    from cssegcore.runtime.device import choose_device
    from cssegcore.runtime.distributed import process_group
    from cssegcore.training.setup import build_trainer
    from stages.common.params import read_params

    params, device = read_params(), choose_device()
    dataset, lists = open_dataset(params.dataset), Path("work/split") / STEP
    tests = ImageList.read(lists / "test.json")
    train = ImageList.read(lists / "train.json")
    if what == "evaluation":  # the network alone
        few = [[name, content] for name, content in train.images[:1]]
        train = ImageList(train.step, train.index, train.classes, train.visible, few)
    trainer = build_trainer(plan(params), dataset, train, None, device)
    with process_group(device):
        if what == "batches":
            how = trainer.augmentation, trainer.optimizer.batch_size, device
            batches = trainer.data.batches(0, *how, trainer.segmenter.normalization)
            for _ in itertools.islice(batches, count):
                pass
        else:
            network, rows = trainer.segmenter, len(tests.row_names)
            size, images = params.evaluation.batch_size, ImageStore(dataset, tests)
            count_confusion(network, images, rows, size, device, lambda items, _: items, set())


def report(told: dict[str, dict[tuple[str, int], float]], given: argparse.Namespace) -> None:
    """Prints a table: a row for each stage and number of processes, a column for each tree."""
    trees = list(told)
    print(f"\n{'MiB (beyond network and libraries)':36}" + "".join(f"{t:>26}" for t in trees))
    for what, processes in told[FEW]:
        row = f"{what}, {processes} process{'es' * (processes > 1)}"
        least = told[FEW][what, processes]
        cells = [f"{told[t][what, processes]:.0f}" for t in trees]
        for at, tree in enumerate(trees[1:], 1):
            cells[at] += f" ({told[tree][what, processes] - least:.0f})"
        print(f"{row:36}" + "".join(f"{cell:>26}" for cell in cells), flush=True)
    budget = os.environ.get("CSSEGCORE_MEMORY")
    print(f"\nCSSEGCORE_MEMORY: {budget + ' GiB' if budget else 'not set'};", end=" ")
    print(f"{given.batches} batches, {given.tests} test images, {os.cpu_count()} cores")


def arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-S", "--set", action="append", default=[], help="Hydra override")
    parser.add_argument("--photographs", type=int, default=20210, help="of 683 x 512; 0 for none")
    parser.add_argument("--streets", type=int, default=2975, help="of 2048 x 1024; 0 for none")
    parser.add_argument("--tests", type=int, default=200, help="images to test on, in each tree")
    parser.add_argument("--different", type=int, default=200, help="files; all others are links")
    parser.add_argument("--batches", type=int, default=20, help="of an epoch")
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--budget", help="GiB for decoded images, CSSEGCORE_MEMORY")
    parser.add_argument("--work", choices=("batches", "evaluation"), help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Draws the trees and measures them one after the other."""
    given = arguments()
    if given.work:
        work(given.work, given.batches)
        return
    if not Path("/proc/self/smaps_rollup").exists():
        raise SystemExit("error: this system does not tell what processes share: run it on Linux.")
    if given.budget:
        os.environ["CSSEGCORE_MEMORY"] = given.budget
    trees: dict[str, tuple[tuple[int, int], int, int]] = {
        FEW: ((96, 96), 24, 8),
        f"{given.photographs} of 683 x 512": ((512, 683), given.photographs, given.tests),
        f"{given.streets} of 2048 x 1024": ((1024, 2048), given.streets, given.tests),
    }
    told: dict[str, dict[tuple[str, int], Any]] = {}
    with tempfile.TemporaryDirectory() as name:
        for at, (tree, (size, count, tests)) in enumerate(trees.items()):
            if not count:
                continue
            print(f"{tree}:", flush=True)
            root = Path(name) / f"drawn{at}"
            draw_tree(root, size, {"train": count, "val": tests}, given.different)
            told[tree] = measure(root, Path(name) / f"project{at}", given)
    report(told, given)


if __name__ == "__main__":
    main()
