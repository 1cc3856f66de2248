"""Where the time of a cold `dvc repro` goes: work, start-up of processes, DVC itself.

    python -m bench.pipeline [--cut BASE INCREMENT] [-S override …]

Clones the repository into a temporary folder with an empty cache, fetches the embedded dataset,
runs the pipeline, and runs it again with nothing to do. The start-up of a stage is a process that
imports all that the stage imports and then ends. What DVC does around it, and a process's first
moments, show in stages that a method has nothing to do in.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

START = (
    "import importlib, json, sys\n"
    "for m in json.load(open(sys.argv[1])):\n"
    "    m.startswith(('cssegcore', 'stages')) and '/' not in m and importlib.import_module(m)\n"
    "sys.exit('torch' in sys.modules)\n"
)
IDLE = ("memory", "pseudo_label", "synthesize")
"""Stages that most methods leave nothing to do."""


def timed(command: list[str], folder: Path) -> float:
    """Runs a command quietly; returns seconds."""
    start = time.perf_counter()
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return time.perf_counter() - start


def started(table: Path, folder: Path) -> tuple[float, bool]:
    """Imports what a stage does; returns seconds, and whether that is torch, too."""
    start = time.perf_counter()
    command = [sys.executable, "-c", START, str(table)]
    done = subprocess.run(command, cwd=folder, check=False, capture_output=True)
    if done.stderr:
        raise SystemExit(done.stderr.decode())
    return time.perf_counter() - start, bool(done.returncode)


def reproduce(folder: Path) -> tuple[float, dict[str, float]]:
    """Runs `dvc repro`; returns its seconds, and those from each stage's start to the next's."""
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    start = time.perf_counter()
    marks: list[tuple[str, float]] = []
    with subprocess.Popen(
        ["dvc", "repro"], cwd=folder, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("Running stage '"):
                marks.append((line.split("'")[1], time.perf_counter()))
    if process.returncode:
        raise SystemExit("dvc repro failed")
    end = time.perf_counter()
    stops = [at for _, at in marks[1:]] + [end]
    return end - start, {name: stop - at for (name, at), stop in zip(marks, stops, strict=True)}


def scenario(base: int, increment: int) -> list[str]:
    """Returns the command that writes a scenario of the embedded dataset."""
    cut = ["--base", str(base), "--increment", str(increment)]
    return [sys.executable, "-m", "stages.scenario", f"shapes/{base}-{increment}", *cut]


def main() -> None:
    """Prints a table and the shares."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-S", "--set", action="append", default=[], help="Hydra override")
    parser.add_argument(
        "--cut",
        nargs=2,
        type=int,
        metavar=("BASE", "INCREMENT"),
        help="classes of the base step, and of each increment",
    )
    parser.add_argument("--out", type=Path, help="JSON to write")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "clone"
        subprocess.run(["git", "clone", "-q", ".", folder], check=True)
        timed(["dvc", "pull", "-q", "-r", "embedded", "data.dvc"], folder)
        if given.cut:
            timed(scenario(*given.cut), folder)
            given.set.append("scenario=shapes/{}-{}".format(*given.cut))
        if given.set:
            timed([sys.executable, "-m", "stages.compose", "params.yaml", *given.set], folder)
        cold, stages = reproduce(folder)
        warm = timed(["dvc", "repro"], folder)
        tables = {p.stem: p.resolve() for p in (folder / "work" / "code").glob("*.json")}
        starts, torches = {}, {}
        for stage in stages:
            kind, _, step = stage.partition("@")
            table = {"train": "method.base" if step == "step0" else "method"}.get(kind, kind)
            if table in tables:
                starts[stage], torches[stage] = started(tables[table], folder)

    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}\n")
    print(f"{'stage':22} {'seconds':>8} {'start-up':>9}")
    for stage, seconds in stages.items():
        start = f"{starts[stage]:.1f}" if stage in starts else "–"
        print(f"{stage:22} {seconds:8.1f} {start:>9}")
    total = sum(starts.values())
    print(f"\ncold dvc repro {cold:.0f} s, of it start-up of processes {total:.0f} s")
    print(f"({100 * total / cold:.0f} %)")
    for torch in (True, False):
        kind = [starts[stage] for stage in starts if torches[stage] == torch]
        print(f"median start-up {'with' if torch else 'without'} torch: {median(kind):.1f} s")
    idle = [seconds for stage, seconds in stages.items() if stage.startswith(IDLE)]
    print(f"median of a stage with nothing to do, in all: {median(idle):.1f} s")
    print(f"dvc repro again, with nothing to do in {len(stages)} stages: {warm:.1f} s")
    if given.out:
        result = {"cold": cold, "warm": warm, "stages": stages, "start_up": starts}
        given.out.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
