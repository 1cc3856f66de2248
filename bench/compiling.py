"""What `optimizer.compile` gains in a training step, and after how many of them it has paid.

    python -m bench.compiling --method mib [-S model=deeplabv3_r101 …]

Trains the increment that follows the base step with and without it, in turns within one process.
The first iteration counts apart: with nothing compiled before ("cold"), and in a new process that
finds on disk what the first one compiled ("warm"), as all later steps do.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench._device import Clock, quartiles
from bench.train_step import prepared, timed

KINDS = ("plain", "compiled")


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--method", default="mib")
    parser.add_argument("--all", action="store_true", help="compile on a CPU what learns, too")
    parser.add_argument("-S", "--set", action="append", default=[], help="Hydra override")
    parser.add_argument("--iterations", type=int, default=5, help="of a turn")
    parser.add_argument("--turns", type=int, default=5, help="after one to warm up")
    parser.add_argument("--out", type=Path, help="JSON to write")
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    Clock.add_to(parser)
    given = parser.parse_args()
    if given.measure:
        print(json.dumps(measure(given)))
        return
    with tempfile.TemporaryDirectory() as folder:
        cold, warm = (again(sys.argv[1:], folder) for _ in range(2))
    report(cold, warm)
    if given.out:
        content = {"method": given.method, "overrides": given.set, "cold": cold, "warm": warm}
        given.out.write_text(json.dumps(content, indent=1))


def again(arguments: list[str], kept: str) -> dict[str, Any]:
    """Measures in a new process, which finds in the folder `kept` what was compiled before."""
    command = [sys.executable, "-m", "bench.compiling", "--measure", *arguments]
    environment = os.environ | {"TORCHINDUCTOR_CACHE_DIR": kept}
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, env=environment)
    return json.loads(done.stdout.splitlines()[-1])


def measure(given: argparse.Namespace) -> dict[str, Any]:
    """Returns seconds of the first iteration, and of others, plain and compiled."""
    clock = Clock.of(given)
    with tempfile.TemporaryDirectory() as name:
        folder, trainers = Path(name), {}
        for kind in KINDS:
            # compiled after it was prepared, which trains a base step
            overrides = [*given.set, "optimizer.compile=false"]
            trainers[kind] = prepared(given.method, overrides, folder / kind, clock.device)
        trainers["compiled"].compile()
        learning = trainers["compiled"].segmenter
        if given.all and not learning.batchnorm_is_fused:
            learning.compile_extractor()
        resume = folder / "resume.pt"
        first = {kind: timed(trainer, clock, 1, resume)[0] for kind, trainer in trainers.items()}
        seconds: dict[str, list[float]] = {kind: [] for kind in KINDS}
        for turn in range(given.turns + 1):
            for kind, trainer in trainers.items():
                taken = timed(trainer, clock, given.iterations, resume)
                seconds[kind] += taken if turn else []
    return {"machine": clock.machine, "first": first, "seconds": seconds}


def report(cold: dict[str, Any], warm: dict[str, Any]) -> None:
    """Prints a line for each kind, and when compiling has paid."""
    medians = {kind: statistics.median(cold["seconds"][kind]) for kind in KINDS}
    print(f"{cold['machine']}\n")
    columns = ("ms", "quartiles", "ratio", "first, cold, s", "first, warm, s")
    print(f"{'':10}" + "".join(f"{c:>{len(c) + 4}}" for c in columns))
    for kind in KINDS:
        ratio = medians[kind] / medians["plain"]
        low, _, high = quartiles(cold["seconds"][kind])
        cells = (f"{1000 * medians[kind]:.1f}", f"{1000 * low:.0f}–{1000 * high:.0f}")
        cells += (f"{ratio:.2f}",)
        cells += (f"{cold['first'][kind]:.1f}", f"{warm['first'][kind]:.1f}")
        print(
            f"{kind:10}"
            + "".join(f"{x:>{len(c) + 4}}" for x, c in zip(cells, columns, strict=True))
        )
    gained = medians["plain"] - medians["compiled"]
    for name, run in (("cold", cold), ("warm", warm)):
        spent = run["first"]["compiled"] - run["first"]["plain"]
        paid = f"after {spent / gained:.0f} iterations" if gained > 0 else "never"
        print(f"\n{name}: has paid {paid}", end="")
    print()


if __name__ == "__main__":
    main()
