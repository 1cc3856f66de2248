"""What choosing a checkpoint on the test images is worth: the last epoch against the best one.

    python -m bench.selection [--methods ssul] [--by all] [-S scenario=shapes/4-2 -S seed=1 …]

Some released programs (SSUL's and MBS's among them) test during training, on the images that their
tables are about, and report the checkpoint that did best there. This trains a method once, as the
pipeline does, and tests after every epoch of every step. Each step starts from the last epoch of
the one before it, so that choosing pays once, in the step that is looked at; in those programs the
chosen checkpoint also starts the next step.

The training itself is the pipeline's, bit for bit: looking at a network changes nothing in it.
"""

import argparse
import contextlib
import dataclasses
import functools
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml

from cssegcore.core.files import write_json
from cssegcore.data.center_crop import CentralCrops
from cssegcore.data.dataset import open_dataset
from cssegcore.data.image_list import ImageList
from cssegcore.data.image_store import ImageStore
from cssegcore.evaluation.evaluate import count_confusion
from cssegcore.metrics.continual import step_scores
from cssegcore.metrics.record import Evaluated
from cssegcore.models import checkpoint
from cssegcore.models.segmenter import Segmenter
from cssegcore.runtime.device import choose_device
from cssegcore.runtime.memory import MemoryBudget
from cssegcore.runtime.resume import ResumeFile
from cssegcore.training.hooks import EpochRow, Hooks
from cssegcore.training.setup import StageInputs, build_trainer
from stages import compose
from stages.common.params import Params, read_params
from stages.train import training_params

HOME = Path(__file__).resolve().parents[1]
FIRST = ("check", "index", "split", "saliency")
BEFORE = ("memory", "synthesize", "pseudo_label")
"""What the pipeline runs before all trainings, and before that of an increment."""
GROUPS = ("all", "base", "added")

Curve = list[dict[str, float | None]]
"""mIoU in points of each group of classes, after each epoch."""


def best_epoch(curve: Curve, by: str) -> int:
    """Returns the place of the epoch that did best, the first of several."""
    values = [-1.0 if (value := row[by]) is None else value for row in curve]
    return values.index(max(values))


def table(method: str, curves: Mapping[str, Curve], by: str) -> str:
    """Returns a line for each step and group: the last epoch, the best one, and the difference."""
    lines = [f"{'':16}{'group':>7}{'last':>8}{'best':>8}{'epoch':>9}{'gain':>7}"]
    for step, curve in curves.items():
        best = best_epoch(curve, by)
        for group in GROUPS:
            last, chosen = curve[-1][group], curve[best][group]
            if last is None or chosen is None:
                continue
            epoch = f"{best + 1} of {len(curve)}"
            numbers = f"{last:>8.2f}{chosen:>8.2f}{epoch:>9}{chosen - last:>+7.2f}"
            lines.append(f"{f'{method} {step}':16}{group:>7}{numbers}")
    return "\n".join(lines)


def commands(params: Mapping[str, Any]) -> dict[str, list[str]]:
    """Returns the arguments of every stage's command, filled in from dvc.yaml as DVC does."""
    found = {}
    for name, stage in yaml.safe_load((HOME / "dvc.yaml").read_text())["stages"].items():
        keys = params[stage["foreach"][2:-1]] if "foreach" in stage else {"": None}
        for key, item in keys.items():
            values = {**params, "key": key, "item": item}
            command = stage.get("do", stage)["cmd"]
            filled = re.sub(r"\$\{([\w.]+)\}", functools.partial(_value, values), command)
            found[f"{name}@{key}" if key else name] = filled.split()[1:]
    return found


def _value(values: Mapping[str, Any], match: re.Match[str]) -> str:
    return str(functools.reduce(lambda at, name: at[name], match[1].split("."), values))


@contextlib.contextmanager
def project(overrides: Sequence[str], kept: Path | None) -> Iterator[dict[str, list[str]]]:
    """Makes a folder the current one, with parameters; yields the stages' commands.

    Args:
        overrides: For Hydra.
        kept: The folder; None: a temporary one.
    """
    from omegaconf import OmegaConf

    composed = OmegaConf.to_container(compose.composed(overrides, HOME / "conf"))
    assert isinstance(composed, dict)
    params = {str(key): value for key, value in composed.items()}
    params["dataset"]["root"] = str((HOME / params["dataset"]["root"]).resolve())
    before = Path.cwd()
    with contextlib.ExitStack() as stack:
        folder = kept or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        os.chdir(folder)
        try:
            Path("params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
            yield commands(params)
        finally:
            os.chdir(before)


def run(command: Sequence[str]) -> None:
    """Runs a stage; its failure is ours."""
    environment = os.environ | {"PYTHONPATH": str(HOME), "CSSEGCORE_TRACKING": "off"}
    done = subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, check=False, env=environment
    )
    if done.returncode:
        raise SystemExit(done.stderr)


def tester(
    params: Params, step: str, device: torch.device
) -> Callable[[Segmenter], dict[str, Any]]:
    """Returns what tests a network as the stage `evaluate` of a step does: mIoU by group."""
    how, dataset = params.evaluation, open_dataset(params.dataset)
    image_list = ImageList.read(Path(f"work/split/{step}/test.json"))
    seen = CentralCrops.of(dataset, how.size) if how.view == "crop" else dataset
    images, classes = ImageStore(seen, image_list), image_list.classes
    images.keep(MemoryBudget.of_environment())

    def test(segmenter: Segmenter) -> dict[str, Any]:
        rows = len(classes.names)
        matrix, _ = count_confusion(
            segmenter, images, rows, how.batch_size, device, lambda items, _: items, set()
        )
        record = Evaluated(
            step=step,
            index=image_list.index,
            classes=list(classes.names),
            learned=classes.step_of,
            seen=matrix.shape[1],
            images=len(images),
            matrix=matrix.tolist(),
        )
        return step_scores(record, how.future)["miou"]

    return test


def trained(params: Params, step: str, device: torch.device) -> Curve:
    """Trains a step as the stage `train` does and tests it after every epoch.

    Killed and started again, it goes on from its last finished epoch.
    """
    numbers, folder = params.step(step), Path(f"work/{step}")
    how = training_params(params, numbers)
    first = numbers.previous == "none"
    previous = None if first else Path(f"work/{numbers.previous}/model.safetensors")
    read = ImageList.read(Path(f"work/split/{step}/{numbers.images}.json"))
    images = dataclasses.replace(read, void=params.labels.void)
    inputs = StageInputs(
        folder / "pseudo_labels", folder / "memory", Path("work/saliency"), folder / "synthesis"
    )
    trainer = build_trainer(how, open_dataset(params.dataset), images, previous, device, inputs)
    test, path = tester(params, step, device), folder / "curve.json"
    curve: Curve = json.loads(path.read_text()) if path.exists() else []

    def follow(row: EpochRow) -> None:
        if row["epoch"] <= len(curve):  # of before a kill
            return
        curve.append(test(trainer.segmenter))
        write_json(path, curve)
        trainer.segmenter.train()
        print(f"{step} epoch {row['epoch']:.0f}: mIoU {curve[-1]['all']:.2f}", flush=True)

    result = trainer.train(ResumeFile(folder / "resume.pt"), Hooks(follow, lambda items, _: items))
    checkpoint.save(
        folder / "model.safetensors", trainer.segmenter, trainer.model, result.statistics
    )
    if params.method["after"]["part"] != "none" and not first:  # it acts on what is saved
        curve[-1] = test(trainer.segmenter.eval())
    return curve


def curves(method: str, overrides: Sequence[str], kept: Path | None) -> dict[str, Curve]:
    """Trains a method's whole run; returns each step's curve."""
    with project([*overrides, f"method={method}"], kept) as stages:
        for name in FIRST:
            run(stages[name])
        params, device, found = read_params(), choose_device(), {}
        for step in params.steps:
            for name in BEFORE:
                if f"{name}@{step}" in stages:
                    run(stages[f"{name}@{step}"])
            found[step] = trained(params, step, device)
        return found


def main() -> None:
    """Trains each method once and prints its table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--methods", nargs="+", default=["ssul"], help="recipes of conf/method")
    parser.add_argument(
        "--by", choices=("all", "new"), default="all", help="classes whose mIoU chooses the epoch"
    )
    parser.add_argument("-S", "--set", action="append", default=[], help="Hydra override")
    parser.add_argument(
        "--work", type=Path, help="folder to train in, which a killed call goes on from"
    )
    parser.add_argument("--out", type=Path, help="where to write all curves (JSON)")
    given = parser.parse_args()

    done = {}
    for method in given.methods:
        kept = given.work.resolve() / method if given.work else None
        done[method] = curves(method, given.set, kept)
        if given.out:
            given.out.write_text(json.dumps(done, indent=1))
    for method, steps in done.items():
        print(f"\n{table(method, steps, given.by)}")


if __name__ == "__main__":
    main()
