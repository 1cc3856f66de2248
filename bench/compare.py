"""Runs a grid of methods and seeds, every run a DVC experiment, and compares them.

    python -m bench.compare --methods ft mib joint --seeds 1 2 3 -S scenario=shapes/4-2

Runs in temporary copies (`dvc exp run --temp`), so the workspace stays as it is; what runs share,
the base step above all, comes from DVC's cache. The experiments stay in `dvc exp show` and MLflow.
Several calls (other methods, seeds or machines) make one table: `--add FILE` takes in what an
earlier call wrote. The table is that of `python -m stages.compare`, of these runs alone.
"""

import argparse
import json
import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import dvc.api
import yaml

from cssegcore.report.comparison.runs import Benchmark, FinishedRun
from cssegcore.report.comparison.table import compare_runs
from cssegcore.report.comparison.writers import as_text

METHODS = (
    *("ft", "ewc", "pi", "rw", "lwf", "lwf_mc", "ilt", "mib", "plop"),
    *("sdr", "sdr_mib", "sdr_plop", "ssul", "ssul_m", "ewf_mib", "ewf_plop", "lgkd"),
    *("nest_mib", "nest_plop", "mbs", "dkd", "dkd_m", "star", "star_m", "deepinversion", "joint"),
)
ON_TOKENS = ("mbs",)
"""Methods that need `-S model=segmenter_vit_tiny`, or another network with class tokens."""
BOUNDS = ("joint",)
TOLD = ("scenario", "setting", "order", "seed", "test images", "changed")
"""Of the protocol in summary.json, what a comparison asks for."""


def run(command: Sequence[str]) -> str:
    """Runs a command and returns what it printed; its failure is ours."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    return done.stdout


def experiment(name: str, overrides: Sequence[str]) -> tuple[dict[str, Any], int, int]:
    """Runs one continual run; returns its metrics, and its trainings run and restored."""
    sets = [argument for override in overrides for argument in ("-S", override)]
    subprocess.run(["dvc", "exp", "remove", name], capture_output=True, check=False)  # an older one
    printed = run(["dvc", "exp", "run", "--temp", "--name", name, *sets])
    trained = len(re.findall(r"^Running stage 'train@", printed, re.MULTILINE))
    restored = len(re.findall(r"^Stage 'train@.*(?:cached|didn't change)", printed, re.MULTILINE))
    last = yaml.safe_load(dvc.api.read("params.yaml", rev=name))["scenario"]["last"]
    paths = {
        "first": "work/step0/metrics.json",
        "last": f"work/{last}/metrics.json",
        "summary": "work/report/summary.json",
    }
    metrics = {key: json.loads(dvc.api.read(path, rev=name)) for key, path in paths.items()}
    return metrics, trained, restored


def finished(method: str, metrics: Mapping[str, Any]) -> FinishedRun:
    """Returns a run as a comparison sees it; where it belongs says the protocol of its summary."""
    summary = metrics["summary"]
    said = [part for part in summary["protocol"].split("; ") if part.startswith(TOLD)]
    told = {k: part.removeprefix(f"{k} ") for k in TOLD for part in said if part.startswith(k)}
    changed = told.get("changed", "")
    return FinishedRun(
        source=f"{method}, seed {told['seed']}",
        method=method,
        label=f"{method} ({changed})" if changed else method,
        benchmark=Benchmark(told["scenario"], told["setting"], told["test images"]),
        seed=int(told["seed"]),
        order=told["order"],
        is_bound=method in BOUNDS,
        summary=summary,
        steps=[{"miou_base_nobg": metrics["first"]["miou"]["base_nobg"]}],
    )


def table(results: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Returns the table, in points of mIoU."""
    runs = [finished(method, metrics) for method, of in results.items() for metrics in of]
    return as_text(compare_runs(runs))


def main() -> None:
    """Runs the grid and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    usual = [method for method in METHODS if method not in ON_TOKENS]
    parser.add_argument("--methods", nargs="*", choices=METHODS, default=usual)
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("-S", "--set", action="append", default=[], help="Hydra override")
    parser.add_argument("--out", type=Path, default=Path(".cssegcore/compare.json"))
    parser.add_argument("--add", type=Path, action="append", default=[], help="an earlier --out")
    given = parser.parse_args()

    results: dict[str, list[dict[str, Any]]] = {}
    trained = restored = 0
    for file in given.add:
        earlier = json.loads(file.read_text())
        trained, restored = trained + earlier["trained"], restored + earlier["restored"]
        for method, runs in earlier["results"].items():
            results.setdefault(method, []).extend(runs)
    for seed in given.seeds:
        for method in given.methods:
            suffix = "-".join(re.sub(r"\W+", "-", s.split("=")[-1]) for s in given.set)
            name = "-".join(filter(None, ["compare", method, str(seed), suffix]))
            overrides = [*given.set, f"method={method}", f"seed={seed}"]
            metrics, ran, kept = experiment(name, overrides)
            results.setdefault(method, []).append(metrics)
            trained, restored = trained + ran, restored + kept
            print(f"{name}: {ran} trainings run, {kept} from the cache", flush=True)
            given.out.parent.mkdir(parents=True, exist_ok=True)
            content = {"results": results, "trained": trained, "restored": restored}
            given.out.write_text(json.dumps(content, indent=1))

    print(f"\n{table(results)}")
    print(f"\n{trained} trainings run, {restored} taken from the cache")


if __name__ == "__main__":
    main()
