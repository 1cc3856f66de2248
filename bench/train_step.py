"""What a training step of each method costs beside fine-tuning's, with the same network.

    python -m bench.train_step --methods ft mib plop ssul [-S model=deeplabv3_r101 …]

Times the increment that follows the base step: forward passes of the new and, where a method asks
for it, the old model, losses, backward pass and update; the reading of images is left out. Methods
take turns, so that what else the machine does falls on all of them alike. Weights are fresh and
labels as annotated: neither changes what is computed.
"""

import argparse
import json
import platform
import statistics
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch

from cssegcore import checkpoint
from cssegcore.data.batches import Batch
from cssegcore.data.dataset import Dataset, open_dataset
from cssegcore.data.index import build_index
from cssegcore.data.splits import write_splits
from cssegcore.device import choose_device
from cssegcore.engine import Hooks, Job
from cssegcore.job import Plan, Sources, prepare
from cssegcore.resume import ResumeFile
from cssegcore.saliency.maps import write_maps
from cssegcore.scenarios import StepList
from stages import compose
from stages._params import FIRST, Params, read_params

METHODS = (
    *("ft", "lwf", "lwf_mc", "ilt", "ewc", "pi", "rw"),
    *("mib", "plop", "sdr", "sdr_plop", "ssul", "ssul_m"),
)


def main() -> None:
    """Prints a table of milliseconds and of ratios to the first method."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--methods", nargs="+", default=list(METHODS))
    parser.add_argument("-S", "--set", action="append", default=[], help="Hydra override")
    parser.add_argument("--iterations", type=int, default=5, help="of a method's turn")
    parser.add_argument("--turns", type=int, default=5, help="after one to warm up")
    parser.add_argument("--out", type=Path, help="JSON to write")
    given = parser.parse_args()
    device = choose_device()
    times: dict[str, list[float]] = {method: [] for method in given.methods}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        jobs = {m: prepared(m, given.set, folder / m, device) for m in given.methods}
        for turn in range(given.turns + 1):
            for method, job in jobs.items():
                taken = timed(job, given.iterations, folder / "resume.pt")
                times[method] += taken if turn else []
    report(times, device, given.set)
    if given.out:
        given.out.write_text(json.dumps({"seconds": times, "device": str(device)}, indent=1))


def prepared(method: str, overrides: list[str], folder: Path, device: torch.device) -> Job:
    """Returns the job of a method's first increment, ready to train."""
    folder.mkdir()
    compose.main(folder / "params.yaml", [*overrides, f"method={method}"])
    params = read_params(folder / "params.yaml")
    dataset = open_dataset(params.dataset)
    lists = split(params, dataset, folder)
    given = sources(params, dataset, folder)
    base = prepare(plan(params), dataset, lists[0], None, device, given)
    trained = base.train(ResumeFile(folder / "resume.pt"), Hooks(lambda _: None, first_only))
    checkpoint.save(folder / "model.safetensors", base.segmenter, base.model, trained.statistics)
    return prepare(plan(params), dataset, lists[1], folder / "model.safetensors", device, given)


def first_only(batches: Iterable[Batch], _: int) -> Iterator[Batch]:
    """Yields one batch."""
    yield next(iter(batches))


def split(params: Params, dataset: Dataset, folder: Path) -> list[StepList]:
    """Returns the training lists of the first two steps."""
    entries = build_index(dataset, lambda items, _: items)
    write_splits(folder, params.scenario_of(dataset.classes), entries, dataset.classes)
    names = [name for name in params.steps if params.step(name).prev in ("none", FIRST)]
    return [StepList.read(folder / name / "train.json") for name in names]


def sources(params: Params, dataset: Dataset, folder: Path) -> Sources:
    """Returns saliency maps where the recipe has an unknown class."""
    if params.method["base"]["unknown"]["part"] == "none":
        return Sources()
    out = folder / "saliency"
    if not out.exists():
        write_maps(out, dataset, dataset.names("train"), "computed", lambda items, _: items)
    return Sources(saliency=out)


def plan(params: Params) -> Plan:
    """Returns how to train an epoch, with a rate so small that nothing runs away."""
    return Plan(
        params.method,
        params.model,
        params.optimizer,
        params.augmentation,
        epochs=1,
        lr=1e-6,
        seed=params.seed,
    )


def timed(job: Job, iterations: int, resume: Path) -> list[float]:
    """Trains for some iterations; returns the seconds of each."""
    seconds: list[float] = []

    def stopped(batches: Iterable[Batch], _: int) -> Iterator[Batch]:
        for at, batch in enumerate(batches):
            if at == iterations:
                return
            start = now(job.device)
            yield batch
            seconds.append(now(job.device) - start)

    job.train(ResumeFile(resume), Hooks(epoch=lambda _: None, progress=stopped))
    resume.unlink()
    return seconds


def now(device: torch.device) -> float:
    """Returns the time once the device has done all its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def report(times: dict[str, list[float]], device: torch.device, overrides: list[str]) -> None:
    """Prints median and spread of each method, and the ratio of medians to the first."""
    machine = torch.cuda.get_device_name() if device.type == "cuda" else platform.machine()
    threads = f", {torch.get_num_threads()} threads" if device.type == "cpu" else ""
    print(f"{machine}{threads}, torch {torch.__version__} {' '.join(overrides)}")
    reference: Any = None
    for method, seconds in times.items():
        low, median, high = (1000 * q for q in statistics.quantiles(seconds, n=4))
        reference = reference or median
        print(f"{method:10} {median:8.1f} ms  ({low:.1f} to {high:.1f})  {median / reference:5.2f}")


if __name__ == "__main__":
    main()
