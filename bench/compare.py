"""Methods side by side: mean and deviation over seeds, every run a DVC experiment.

    python -m bench.compare --methods ft mib joint --seeds 1 2 3 -S scenario=shapes/4-2

Runs in temporary copies (`dvc exp run --temp`), so the workspace stays as it is; what runs share,
the base step above all, comes from DVC's cache. The experiments stay in `dvc exp show` and MLflow.
"""

import argparse
import json
import re
import statistics
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dvc.api
import yaml

COLUMNS = ("base_nobg", "added_nobg", "old_nobg", "new_nobg", "all")


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


def spread(values: Sequence[float]) -> str:
    """Writes mean and sample deviation."""
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):5.1f} ± {deviation:3.1f}"


def main() -> None:
    """Runs the grid and prints a table, in points of mIoU."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--methods", nargs="+", default=["ft", "mib", "joint"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("-S", "--set", action="append", default=[], help="Hydra override")
    parser.add_argument("--out", type=Path, default=Path(".cssegcore/compare.json"))
    given = parser.parse_args()

    results: dict[str, list[dict[str, Any]]] = {}
    trained = restored = 0
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
    given.out.write_text(json.dumps(results, indent=1))

    print(f"\n{'':8} {'base at step 0':>14}", *(f"{c:>12}" for c in COLUMNS), f"{'average':>12}")
    for method, runs in results.items():
        first = [metrics["first"]["miou"]["base_nobg"] for metrics in runs]
        average = [metrics["summary"]["average"] for metrics in runs]
        cells = [spread([metrics["last"]["miou"][c] for metrics in runs]) for c in COLUMNS]
        print(f"{method:8} {spread(first):>14}", *(f"{c:>12}" for c in cells), spread(average))
    print(f"\n{trained} trainings run, {restored} taken from the cache")


if __name__ == "__main__":
    main()
