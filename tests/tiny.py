"""Trainings of a second on the tiny scenes: what the tests of the library share."""

import dataclasses
from pathlib import Path
from typing import Any

import torch
import yaml

from cssegcore.data.dataset import Dataset, open_dataset
from cssegcore.data.index import build_index
from cssegcore.data.splits import write_splits
from cssegcore.engine import Hooks, Row
from cssegcore.job import Job, Plan, prepare
from cssegcore.networks import Segmenter
from cssegcore.resume import ResumeFile
from cssegcore.scenarios import Scenario, StepList
from tests import scenes

torch.set_num_threads(1)

CPU = torch.device("cpu")
METHODS = sorted(path.stem for path in (scenes.HOME / "conf" / "method").glob("*.yaml"))
MODEL = {"part": "small", "stem": [4, 4], "widths": [6, 8, 8], "depth": 8, "dilation": 1}
OPTIMIZER = {
    "batch_size": 2,
    "momentum": 0.9,
    "weight_decay": 1e-4,
    "power": 0.9,
    "clip": 0,
    "amp": True,
}
VIEWS = {"part": "random_resized_crop", "size": 16, "area": [0.5, 1], "aspect": [1, 1], "flip": 0.5}
STEPS = {"step0": ("red", "green"), "step1": ("blue",), "step2": ("yellow",)}
OUTPUTS = {"step0": [3], "step1": [3, 1], "step2": [3, 1, 1]}


def method_section(name: str) -> dict[str, Any]:
    """Returns the section `method` of a recipe in conf/."""
    return yaml.safe_load(scenes.composed(f"method={name}"))["method"]


def plan(method: str = "mib", epochs: int = 2, **changed: Any) -> Plan:
    """Returns how to train a tiny network; `optimizer` changes single numbers of it."""
    optimizer = OPTIMIZER | changed.pop("optimizer", {})
    usual = {"lr": 0.1, "seed": 1, "model": MODEL, "augmentation": VIEWS}
    return Plan(
        method=method_section(method), optimizer=optimizer, epochs=epochs, **usual | changed
    )


@dataclasses.dataclass(frozen=True)
class Lists:
    """The tiny scenes and their lists, in three steps."""

    dataset: Dataset
    folder: Path

    @classmethod
    def write(cls, folder: Path) -> "Lists":
        """Draws the scenes below `folder` and splits them."""
        root = scenes.make_scenes(folder / "dataset")
        dataset = open_dataset({"name": "tiny", "root": str(root), "layout": {"part": "voc"}})
        entries = build_index(dataset, lambda items, _: items)
        scenario = Scenario.of("overlapped", dataset.classes, STEPS)
        write_splits(folder / "split", scenario, entries, dataset.classes)
        return cls(dataset, folder / "split")

    def of(self, step: str, kind: str = "train") -> StepList:
        """Reads a list: `train`, `seen` or `test`."""
        return StepList.read(self.folder / step / f"{kind}.json")

    def prepare(self, how: Plan, step: str, previous: Path | None = None) -> Job:
        """Prepares the training of a step on the list its method asks for."""
        kind = how.method["images"] if previous else "train"
        return prepare(how, self.dataset, self.of(step, kind), previous, CPU)


@dataclasses.dataclass
class Follower:
    """Remembers the rows of a training."""

    rows: list[Row] = dataclasses.field(default_factory=list)

    def hooks(self) -> Hooks:
        return Hooks(epoch=self.rows.append, progress=lambda batches, _: batches)


def run(job: Job, resume: Path) -> list[Row]:
    """Trains a job without anybody watching."""
    return job.train(ResumeFile(resume), Follower().hooks())


def state(segmenter: Segmenter) -> dict[str, bytes]:
    """Returns the bytes of every weight and statistic."""
    return {k: v.numpy().tobytes() for k, v in segmenter.state_dict().items()}
