"""What a comparison of methods saves by sharing what is the same: iterations of training.

    python -m bench.sweep [--methods ft lwf ilt mib plop] [--seeds 1] [-S scenario=shapes/4-2 …]

Trains nothing. Composes the parameters of each method, and takes two trainings for one where all is
equal that DVC would compare: the parameters that dvc.yaml lists for `train` and for the stages that
lead to its step, and the training before. Code follows from parameters, within one checkout.
"""

import argparse
import hashlib
import json
import re
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, reduce
from pathlib import Path
from typing import Any

import yaml

from cssegcore.core.config import parse
from cssegcore.data.dataset import open_dataset
from cssegcore.data.image_list import ImageList
from cssegcore.data.index import build_index
from cssegcore.scenario.splits import write_splits
from stages import compose
from stages.common.params import FIRST, Params, read_raw

METHODS = ("ft", "lwf", "ilt", "mib", "plop")
BEFORE = {True: ("index", "split", "saliency"), False: ("pseudo_label", "memory", "synthesize")}
"""Stages that lead to the base step's training, and to an increment's beside the step before."""
Lengths = Mapping[str, Mapping[str, int]]
"""Images by step and list."""


@dataclass(frozen=True)
class Training:
    """A step's training: how many iterations, and a digest of all that its result depends on."""

    step: str
    iterations: int
    depends: str


def trainings(params: Mapping[str, Any], lengths: Lengths) -> list[Training]:
    """Returns the trainings of one continual run, in order."""
    made, before = [], ""
    batch = params["optimizer"]["batch_size"]
    for step, numbers in params["steps"].items():
        stages = (*BEFORE[step == FIRST], "train")
        values = {name: _read(params, step, _parameters(name)) for name in stages}
        said = json.dumps([before, values], sort_keys=True)  # whole, it would double at each step
        before = hashlib.sha256(said.encode()).hexdigest()
        images = lengths[step][numbers["images"]] + _joined(params, step)
        made.append(Training(step, numbers["epochs"] * max(1, images // batch), before))
    return made


def _joined(params: Mapping[str, Any], step: str) -> int:
    """Returns how many photographs of earlier steps are in one list with the step's own."""
    replay = params["method"]["replay"]
    return replay["size"] if step != FIRST and replay.get("mix") == "concatenated" else 0


@cache
def _parameters(stage: str) -> tuple[str, ...]:
    section = yaml.safe_load(Path("dvc.yaml").read_text(encoding="utf-8"))["stages"][stage]
    return tuple(section.get("do", section)["params"])


def _read(params: Mapping[str, Any], step: str, names: Iterable[str]) -> dict[str, Any]:
    """Returns the values of the parameters that dvc.yaml lists, `${...}` filled in for a step."""
    filled = {"key": step, **{f"item.{k}": v for k, v in params["steps"][step].items()}}
    found = {}
    for name in names:
        path = re.sub(r"\$\{([\w.]+)\}", lambda match: str(filled[match[1]]), name)
        found[path] = reduce(lambda at, part: at[part], path.split("."), params)
    return found


def run_and_restored(runs: Iterable[Sequence[Training]]) -> list[tuple[int, int]]:
    """Returns of each run the iterations that are trained and those that the cache gives back."""
    known: set[str] = set()
    counts = []
    for run in runs:
        fresh = [t for t in run if t.depends not in known]
        known |= {t.depends for t in fresh}
        trained = sum(t.iterations for t in fresh)
        counts.append((trained, sum(t.iterations for t in run) - trained))
    return counts


def composed(overrides: Sequence[str]) -> dict[str, Any]:
    """Returns the parameters that conf/ and `overrides` make."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "params.yaml"
        compose.main(path, list(overrides))
        return read_raw(path)


def measured(params: Mapping[str, Any]) -> Lengths:
    """Returns the length of every step's lists."""
    typed = parse(Params, params, "params.yaml")
    dataset = open_dataset(typed.dataset)
    entries = build_index(dataset, lambda items, _: items)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        scenario = typed.scenario_of(dataset.classes)
        write_splits(folder, scenario, entries, dataset.classes, shared=True)
        return {
            step: {
                kind: len(ImageList.read(folder / step / f"{kind}.json").images)
                for kind in ("train", "seen")
            }
            for step in typed.steps
        }


def main() -> None:
    """Prints a table and the share that is saved."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--methods", nargs="+", default=list(METHODS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[1])
    parser.add_argument("-S", "--set", action="append", default=[], help="Hydra override")
    parser.add_argument("--out", type=Path, help="JSON to write")
    given = parser.parse_args()
    runs: dict[str, list[Training]] = {}
    lengths: dict[str, Lengths] = {}
    for seed in given.seeds:
        for method in given.methods:
            params = composed([*given.set, f"method={method}", f"seed={seed}"])
            lists = json.dumps([params["dataset"], params["scenario"]])
            lengths[lists] = lengths.get(lists) or measured(params)
            runs[f"{method}, seed {seed}"] = trainings(params, lengths[lists])
    counts = run_and_restored(runs.values())
    print(f"{'iterations':24}{'base':>8}{'later':>8}{'trained':>10}{'from cache':>12}")
    for (name, run), (trained, restored) in zip(runs.items(), counts, strict=True):
        base = run[0].iterations
        later = sum(t.iterations for t in run) - base
        print(f"{name:24}{base:8}{later:8}{trained:10}{restored:12}")
    together, saved = (sum(column) for column in zip(*counts, strict=True))
    apart = together + saved
    print(f"\n{len(runs)} runs apart train {apart} iterations, this pipeline {together}:")
    print(f"{100 * saved / apart:.0f} % are saved")
    if given.out:
        rows = {n: {"trained": t, "cached": c} for n, (t, c) in zip(runs, counts, strict=True)}
        given.out.write_text(json.dumps({"runs": rows, "saved": saved / apart}, indent=1))


if __name__ == "__main__":
    main()
