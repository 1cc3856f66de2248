"""How long idle OpenMP threads should spin: a training step alone and beside busy processes.

    python -m bench.spinning [--beside training|alike|pytest] [--turns 5] [-S model=…]

For each setting of libgomp's environment a process of its own times iterations of fine-tuning with
as many threads as cores. Each is timed alone and beside a training of one thread, or one with the
same setting (`alike`, as two workers of a queue are), or the tests of the methods in two processes.
As settings take turns, what else the machine does falls on all of them alike.
"""

import argparse
import os
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

SETTINGS: dict[str, dict[str, str]] = {
    "GOMP_SPINCOUNT=300000": {"GOMP_SPINCOUNT": "300000"},  # libgomp's default
    "GOMP_SPINCOUNT=1000": {"GOMP_SPINCOUNT": "1000"},
    "GOMP_SPINCOUNT=5000": {"GOMP_SPINCOUNT": "5000"},
    "GOMP_SPINCOUNT=10000": {"GOMP_SPINCOUNT": "10000"},
    "OMP_WAIT_POLICY=passive": {"OMP_WAIT_POLICY": "passive"},
    "one thread": {"OMP_NUM_THREADS": "1"},
}
TESTS = [sys.executable, "-m", "pytest", "-n", "2", "-p", "no:cacheprovider", "tests/method"]
FIXED = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "OMP_NUM_THREADS")


def main() -> None:
    """Prints milliseconds of an iteration, alone and beside others, for each setting."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-S", "--set", action="append", default=[], help="Hydra override")
    parser.add_argument("--beside", choices=("training", "alike", "pytest"), default="training")
    parser.add_argument("--iterations", type=int, default=10, help="of a turn")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--worker", choices=("time", "busy"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        work(given.worker, given.set, given.iterations)
        return
    seen: dict[tuple[str, bool], list[float]] = {}
    for _ in range(given.turns):
        for crowded in (False, True):
            for name, setting in SETTINGS.items():
                with busy(given.beside, setting, given.set) if crowded else nullcontext():
                    seen.setdefault((name, crowded), []).append(iteration(setting, given))
    report(seen, given.beside)


def iteration(setting: dict[str, str], given: argparse.Namespace) -> float:
    """Returns the median seconds of an iteration in a process of its own."""
    command = worker("time", given.set, "--iterations", str(given.iterations))
    told = subprocess.run(
        command, env=environment(setting), stdout=subprocess.PIPE, text=True, check=True
    )
    return float(told.stdout.split()[-1])


@contextmanager
def busy(kind: str, setting: dict[str, str], overrides: list[str]) -> Iterator[None]:
    """Has another training, or tests, run meanwhile."""
    own = setting if kind == "alike" else {"OMP_NUM_THREADS": "1"}
    command = TESTS if kind == "pytest" else worker("busy", overrides)
    running = subprocess.Popen(
        command,
        env=environment(own),
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,  # pytest has workers, which end with it
    )
    try:
        assert running.stdout
        running.stdout.readline()  # it trains, or tests, now
        yield
    finally:
        os.killpg(running.pid, signal.SIGKILL)
        running.wait()


def worker(kind: str, overrides: list[str], *more: str) -> list[str]:
    """Returns the command of a process that trains."""
    own = [argument for override in overrides for argument in ("-S", override)]
    return [sys.executable, "-m", "bench.spinning", "--worker", kind, *own, *more]


def environment(setting: dict[str, str]) -> dict[str, str]:
    """Returns this process's environment with nothing else said about threads."""
    return {k: v for k, v in os.environ.items() if k not in FIXED} | setting


def work(kind: str, overrides: list[str], iterations: int) -> None:
    """Trains: for some iterations, whose median seconds it prints, or until it is killed."""
    import torch

    from bench._device import Clock
    from bench.train_step import prepared, timed

    with tempfile.TemporaryDirectory() as name:
        device = torch.device("cpu")
        trainer = prepared("ft", overrides, Path(name) / "ft", device)
        resume = Path(name) / "resume.pt"
        if kind == "busy":
            print("ready", flush=True)
            while True:
                timed(trainer, Clock(device), iterations, resume)
        timed(trainer, Clock(device), 2, resume)
        print(statistics.median(timed(trainer, Clock(device), iterations, resume)))


def report(seen: dict[tuple[str, bool], list[float]], beside: str) -> None:
    """Prints a row for each setting, and the ratio of beside to alone."""
    print(f"{os.cpu_count()} cores, beside: {beside}; ms of an iteration\n")
    print(f"{'':24}{'alone':>10}{'beside':>10}{'ratio':>8}")
    for name in SETTINGS:
        alone, crowded = (1000 * statistics.median(seen[name, at]) for at in (False, True))
        print(f"{name:24}{alone:10.1f}{crowded:10.1f}{crowded / alone:8.1f}")


if __name__ == "__main__":
    main()
