"""Runs a grid of methods and seeds, every run a DVC experiment, and compares them.

    python -m bench.compare --methods ft mib joint --seeds 1 2 3 -S scenario=shapes/4-2

Runs in temporary copies (`dvc exp run --temp`), so the workspace stays as it is; what runs share,
the base step above all, comes from DVC's cache. The experiments stay in `dvc exp show` and MLflow.
Several calls (other methods, seeds, machines or nights) make one table: `--add FILE` takes in what
an earlier call wrote, and runs of the grid that it has are not made again; with the file of `--out`
itself a call that was stopped goes on. The table is that of `python -m stages.compare`, of these
runs alone; `--classes` adds one of the IoU of each class.
"""

import argparse
import dataclasses
import hashlib
import json
import platform
import re
import statistics
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from cssegcore.report.comparison.runs import Benchmark, FinishedRun
from cssegcore.report.comparison.table import compare_runs
from cssegcore.report.comparison.writers import TABLE_WRITERS
from stages.common.dvc_runs import dvc_runs
from stages.common.found_runs import finished_run
from stages.compose import composed

METHODS = (
    *("ft", "ewc", "pi", "rw", "lwf", "lwf_mc", "ilt", "mib", "plop"),
    *("sdr", "sdr_mib", "sdr_plop", "ssul", "ssul_m", "ewf_mib", "ewf_plop", "lgkd", "ewf_lgkd"),
    *("nest_mib", "nest_plop", "mbs", "dkd", "dkd_m", "star", "star_m", "deepinversion", "joint"),
)
ON_TOKENS = ("mbs",)
"""Methods that need `-S model=segmenter_vit_tiny`, or another network with class tokens."""


@dataclasses.dataclass(frozen=True)
class Record:
    """A finished run, and how it was made.

    Attributes:
        run: The run as a comparison sees it.
        overrides: What the call set for all its runs; not where a file lies on a machine.
        commit: The code that made it.
        trained: Trainings that were run for it.
        restored: Trainings that came from the cache.
        parameters: Digest of its parameters; "" in files that were written before it was kept.
    """

    run: FinishedRun
    overrides: tuple[str, ...]
    commit: str
    trained: int
    restored: int
    parameters: str = ""

    @classmethod
    def read(cls, content: dict[str, Any]) -> "Record":
        """Returns what `dataclasses.asdict` wrote."""
        told = content["run"]
        run = FinishedRun(**told | {"benchmark": Benchmark(**told["benchmark"])})
        return cls(**content | {"run": run, "overrides": tuple(content["overrides"])})


def run(*command: str) -> str:
    """Runs a command and returns what it printed; its failure is ours."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    return done.stdout


def experiment(method: str, seed: int, overrides: Sequence[str]) -> Record:
    """Makes one continual run."""
    told = without_places(overrides)
    suffix = [re.sub(r"\W+", "-", override.split("=")[-1]).strip("-") for override in told]
    name = "-".join(["compare", method, str(seed), *suffix])
    subprocess.run(["dvc", "exp", "remove", name], capture_output=True, check=False)  # an older one
    sets = [*overrides, f"method={method}", f"seed={seed}"]
    arguments = [argument for override in sets for argument in ("-S", override)]
    printed = run("dvc", "exp", "run", "--temp", "--name", name, *arguments)
    made = next(entry for entry in dvc_runs() if entry.source == f"experiment {name}")
    return Record(
        finished_run(made),
        told,
        run("git", "rev-parse", "--short", "HEAD").strip(),
        len(re.findall(r"^Running stage 'train@", printed, re.MULTILINE)),
        len(re.findall(r"^Stage 'train@.*(?:cached|didn't change)", printed, re.MULTILINE)),
        parameters_digest(sets),
    )


def parameters_digest(overrides: Sequence[str]) -> str:
    """Digests what conf/ makes of the overrides; places of files are no part of it."""
    made = OmegaConf.to_container(composed([*without_places(overrides), "dataset.root=data"]))
    return hashlib.sha256(json.dumps(made, sort_keys=True).encode()).hexdigest()[:16]


def check_alike(record: Record, overrides: Sequence[str]) -> None:
    """Refuses a record whose parameters conf/ no longer makes.

    Raises:
        SystemExit: They differ; the message names the run.
    """
    sets = [*overrides, f"method={record.run.method}", f"seed={record.run.seed}"]
    if record.parameters not in ("", parameters_digest(sets)):
        raise SystemExit(
            f"{record.run.method}, seed {record.run.seed}, was made by {record.commit} with other"
            " parameters: conf/ has changed since, and one table would hold both. Give another"
            " --out and no --add."
        )


def without_places(overrides: Iterable[str]) -> tuple[str, ...]:
    """Leaves out absolute paths: another machine has the same file elsewhere."""
    return tuple(o for o in overrides if not Path(o.partition("=")[2]).is_absolute())


def of_classes(runs: Iterable[FinishedRun]) -> str:
    """Returns a Markdown table: IoU of each class after the last step, mean over seeds."""
    rows: dict[str, dict[str, list[float]]] = {}
    for made in runs:
        last = made.classes[-1]["step"]
        for row in made.classes:
            if row["step"] == last and isinstance(row["iou"], float):
                of = rows.setdefault(made.label, {})
                of.setdefault(str(row["class"]), []).append(row["iou"])
    classes = list(dict.fromkeys(name for row in rows.values() for name in row))
    lines = [["", *classes], ["---"] * (len(classes) + 1)]
    for label, row in rows.items():
        lines.append([f"`{label}`", *(_mean(row.get(name, ())) for name in classes)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _mean(values: Sequence[float]) -> str:
    return f"{statistics.mean(values):.1f}" if values else "–"


def main() -> None:
    """Runs the grid and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    usual = [method for method in METHODS if method not in ON_TOKENS]
    parser.add_argument("--methods", nargs="*", choices=METHODS, default=usual)
    parser.add_argument("--seeds", nargs="*", type=int, default=[1, 2, 3])
    parser.add_argument("-S", "--set", action="append", default=[], help="Hydra override")
    parser.add_argument("--out", type=Path, default=Path(".cssegcore/compare.json"))
    parser.add_argument("--add", type=Path, action="append", default=[], help="an earlier --out")
    parser.add_argument("--format", choices=TABLE_WRITERS, default="text")
    parser.add_argument("--classes", action="store_true", help="also the IoU of each class")
    given = parser.parse_args()

    records = [r for file in given.add if file.exists() or file != given.out for r in _read(file)]
    told = without_places(given.set)
    known = {(r.run.method, r.run.seed): r for r in records if r.overrides == told}
    for seed in given.seeds:
        for method in given.methods:
            if made := known.get((method, seed)):
                check_alike(made, given.set)
                print(f"{method}, seed {seed}: made by {made.commit}", flush=True)
                continue
            record = experiment(method, seed, given.set)
            counts = f"{record.trained} trainings run, {record.restored} from the cache"
            print(f"{method}, seed {seed}: {counts}", flush=True)
            records.append(record)
            _write(given.out, records)

    runs = [record.run for record in records]
    print(f"\n{TABLE_WRITERS[given.format](compare_runs(runs))}")
    if given.classes:
        print(f"{of_classes(runs)}\n")
    hours = sum(made.seconds or 0 for made in runs) / 3600
    trained, restored = sum(r.trained for r in records), sum(r.restored for r in records)
    print(f"{trained} trainings run, {restored} taken from the cache")
    print(f"{hours:.1f} hours of training, if every run had trained its base step itself")


def _read(path: Path) -> list[Record]:
    try:
        return [Record.read(record) for record in json.loads(path.read_text())["records"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SystemExit(f"--add {path} is no file of an earlier --out: {error}") from None


def _write(path: Path, records: Sequence[Record]) -> None:
    content = {"machine": platform.machine(), "records": list(map(dataclasses.asdict, records))}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
