"""What a training step of each method costs beside fine-tuning's, with the same network.

    python -m bench.train_step --methods ft mib plop ssul [-S model=deeplabv3_r101 …]

Times the increment that follows the base step: forward passes of the new and, where a method asks
for it, the old model, losses, backward pass and update; the reading of images is left out. Methods
take turns, so that what else the machine does falls on all of them alike. Weights are fresh and
labels as annotated: neither changes what is computed.

Floating-point operations are those of convolutions and matrix products, counted in one iteration by
PyTorch. They stand beside the best that a large product of matrices or a large convolution reached
in any turn, in bfloat16 where the step has it and else in float32. Bytes are what all operations
read and write, counted likewise, beside the best rate of a large copy; where caches spare memory
the work, more than all of it. The larger share is what limits.
"""

import argparse
import dataclasses
import itertools
import json
import statistics
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import torch

from bench._device import Clock, arithmetic_rate, copy_rate, quartiles
from bench._operations import operation_counter
from bench._traffic import Traffic
from cssegcore.data.batch import Batch
from cssegcore.data.dataset import Dataset, open_dataset
from cssegcore.data.image_list import ImageList
from cssegcore.data.index import build_index
from cssegcore.models import checkpoint
from cssegcore.runtime.device import peak_memory
from cssegcore.runtime.resume import ResumeFile
from cssegcore.saliency.maps import write_maps
from cssegcore.scenario.splits import write_splits
from cssegcore.training.hooks import Hooks
from cssegcore.training.setup import StageInputs, TrainingParams, build_trainer
from cssegcore.training.trainer import Trained, Trainer
from stages import compose
from stages.common.params import FIRST, Params, read_params

METHODS = (
    *("ft", "lwf", "lwf_mc", "ilt", "ewc", "pi", "rw"),
    *("mib", "plop", "sdr", "sdr_plop", "ssul", "ssul_m"),
    *("dkd", "dkd_m", "star", "star_m"),
)
PRECISIONS = {"bfloat16": "optimizer.amp=true", "float32": "optimizer.amp=false"}


@dataclasses.dataclass
class Subject:
    """A trainer under measurement, and what was seen of it.

    Attributes:
        trainer: Ready to train.
        held: MiB that it holds on a GPU between its turns.
        seconds: Seconds of each iteration.
        peak: The most MiB that it took on a GPU, its weights included; others' are not.
        operations: Floating-point operations of an iteration.
        bytes: That its operations read and write.
    """

    trainer: Trainer
    held: float
    seconds: list[float] = dataclasses.field(default_factory=list)
    peak: float = 0.0
    operations: int = 0
    bytes: int = 0

    def count(self, resume: Path) -> None:
        """Counts the operations of an iteration, and their bytes."""
        counter, traffic = operation_counter(), Traffic()

        def watched(batches: Iterable[Batch], count: int) -> Iterator[Batch]:
            for batch in first_only(batches, count):
                with counter, traffic:
                    yield batch

        train(self.trainer, resume, watched)
        self.operations, self.bytes = counter.get_total_flops(), traffic.bytes

    def turn(self, clock: Clock, iterations: int, resume: Path) -> None:
        """Trains for some iterations."""
        device, before = clock.device, allocated(clock.device)
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        self.seconds += timed(self.trainer, clock, iterations, resume)
        self.peak = max(self.peak, peak_memory(device) - before + self.held)
        self.held += allocated(device) - before

    def figures(self) -> dict[str, Any]:
        """Returns what was measured, and what follows from it."""
        batch, seconds = self.trainer.optimizer.batch_size, statistics.median(self.seconds)
        gflop = self.operations / 1e9
        return {
            "seconds": self.seconds,
            "images/s": batch / seconds,
            "gflop/image": gflop / batch,
            "gflop/s": gflop / seconds,
            "gb/s": self.bytes / 1e9 / seconds,
            "gpu_mib": self.peak,
        }


def main() -> None:
    """Prints a table of milliseconds and of ratios to the first method."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--methods", nargs="+", default=list(METHODS))
    parser.add_argument("-S", "--set", action="append", default=[], help="Hydra override")
    parser.add_argument("--precision", choices=PRECISIONS, help="of convolutions on CUDA")
    parser.add_argument("--iterations", type=int, default=5, help="of a method's turn")
    parser.add_argument("--turns", type=int, default=5, help="after one to warm up")
    parser.add_argument("--out", type=Path, help="JSON to write")
    Clock.add_to(parser)
    given = parser.parse_args()
    clock = Clock.of(given)
    overrides = given.set + ([PRECISIONS[given.precision]] if given.precision else [])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        subjects = {m: subject(m, overrides, folder / m, clock.device) for m in given.methods}
        dtype = precision(next(iter(subjects.values())).trainer)
        rates: dict[str, list[float]] = {"gflop/s": [], "gb/s": []}
        for turn in range(given.turns + 1):
            rates["gflop/s"].append(arithmetic_rate(clock, dtype) / 1e9)
            rates["gb/s"].append(copy_rate(clock) / 1e9)
            for at in subjects.values():
                if not turn:
                    at.count(folder / "resume.pt")
                at.turn(clock, given.iterations, folder / "resume.pt")
                at.seconds = at.seconds if turn else []
    best = {name: max(seen) for name, seen in rates.items()}
    title = f"{clock.machine}; convolutions in {str(dtype).removeprefix('torch.')}"
    figures = {name: at.figures() for name, at in subjects.items()}
    report(" ".join([title, *overrides]), figures, best, clock.device)
    if given.out:
        content = {"machine": title, "overrides": overrides, "best": best, "methods": figures}
        given.out.write_text(json.dumps(content, indent=1))


def subject(method: str, overrides: list[str], folder: Path, device: torch.device) -> Subject:
    """Returns a method's trainer, and what it holds."""
    before = allocated(device)
    trainer = prepared(method, overrides, folder, device)
    return Subject(trainer, allocated(device) - before)


def precision(trainer: Trainer) -> torch.dtype:
    """Returns what convolutions run in."""
    halves = trainer.optimizer.amp and trainer.device.type == "cuda"
    return torch.bfloat16 if halves else torch.float32


def allocated(device: torch.device) -> float:
    """Returns the MiB that tensors take on a GPU."""
    return torch.cuda.memory_allocated(device) / 2**20 if device.type == "cuda" else 0.0


def prepared(method: str, overrides: list[str], folder: Path, device: torch.device) -> Trainer:
    """Returns the trainer of a method's first increment, ready to train."""
    folder.mkdir()
    compose.main(folder / "params.yaml", [*overrides, f"method={method}"])
    params = read_params(folder / "params.yaml")
    dataset = open_dataset(params.dataset)
    lists = split(params, dataset, folder)
    given = sources(params, dataset, folder)
    base = build_trainer(plan(params), dataset, lists[0], None, device, given)
    trained = train(base, folder / "resume.pt", first_only)
    checkpoint.save(folder / "model.safetensors", base.segmenter, base.model, trained.statistics)
    return build_trainer(
        plan(params), dataset, lists[1], folder / "model.safetensors", device, given
    )


def train(
    trainer: Trainer, resume: Path, progress: Callable[[Iterable[Batch], int], Iterable[Batch]]
) -> Trained:
    """Trains an epoch, or what `progress` leaves of it; statistics look at one batch."""
    trained = trainer.train(ResumeFile(resume), Hooks(lambda _: None, progress, first_only))
    resume.unlink()  # nothing is to go on from here
    return trained


def first_only(batches: Iterable[Batch], _: int) -> Iterator[Batch]:
    """Yields one batch."""
    yield next(iter(batches))


def split(params: Params, dataset: Dataset, folder: Path) -> list[ImageList]:
    """Returns the training lists of the first two steps."""
    entries = build_index(dataset, lambda items, _: items)
    scenario = params.scenario_of(dataset.classes)
    write_splits(folder, scenario, entries, dataset.classes, shared=True)  # drawn ones are one
    names = [name for name in params.steps if params.step(name).previous in ("none", FIRST)]
    return [ImageList.read(folder / name / "train.json") for name in names]


def sources(params: Params, dataset: Dataset, folder: Path) -> StageInputs:
    """Returns saliency maps where the recipe has an unknown class."""
    if params.method["base"]["unknown_class"]["part"] == "none":
        return StageInputs()
    out = folder / "saliency"
    if not out.exists():
        write_maps(out, dataset, dataset.names("train"), "computed", lambda items, _: items)
    return StageInputs(saliency=out)


def plan(params: Params) -> TrainingParams:
    """Returns how to train an epoch, with a rate so small that nothing runs away."""
    return TrainingParams(
        params.method,
        params.model,
        params.optimizer,
        params.augmentation,
        epochs=1,
        lr=1e-6,
        seed=params.seed,
    )


def timed(trainer: Trainer, clock: Clock, iterations: int, resume: Path) -> list[float]:
    """Trains for some iterations; returns the seconds of each."""
    seconds: list[float] = []

    def stopped(batches: Iterable[Batch], _: int) -> Iterator[Batch]:
        ready = itertools.islice(batches, iterations)
        for batch in list(ready) if clock.device.type == "cuda" else ready:  # none made meanwhile
            start = clock.now()
            yield batch
            seconds.append(clock.now() - start)

    train(trainer, resume, stopped)
    return seconds


def report(
    title: str, figures: dict[str, dict[str, Any]], best: dict[str, float], device: torch.device
) -> None:
    """Prints median and spread of each method, the ratio of medians to the first, and its rates."""
    print(f"{title}\n")
    columns = ("ms", "quartiles", "ratio", "images/s", "GFLOP/image", "GFLOP/s", "of best")
    columns += ("GB/s", "of best", "MiB")
    widths = [max(8, len(c) + 3) for c in columns]
    print(f"{'':9}" + "".join(f"{c:>{w}}" for c, w in zip(columns, widths, strict=True)))
    reference = statistics.median(next(iter(figures.values()))["seconds"])
    for method, seen in figures.items():
        low, median, high = quartiles(seen["seconds"])
        rate, moved = seen["gflop/s"], seen["gb/s"]
        cells = (
            f"{1000 * median:.1f}",
            f"{1000 * low:.0f}–{1000 * high:.0f}",
            f"{median / reference:.2f}",
            f"{seen['images/s']:.1f}",
            f"{seen['gflop/image']:.2f}",
            f"{rate:.0f}",
            f"{100 * rate / best['gflop/s']:.0f} %",
            f"{moved:.1f}",
            f"{100 * moved / best['gb/s']:.0f} %",
            f"{seen['gpu_mib']:.0f}" if device.type == "cuda" else "–",
        )
        print(f"{method:9}" + "".join(f"{c:>{w}}" for c, w in zip(cells, widths, strict=True)))
    print(f"\nbest: products of matrices or convolutions {best['gflop/s']:.0f} GFLOP/s,", end=" ")
    print(f"copies {best['gb/s']:.0f} GB/s, read and written")
    if device.type == "cpu":
        print(f"resident memory of this process, all methods in it: {peak_memory(device):.0f} MiB")


if __name__ == "__main__":
    main()
