"""A dataset of twelve tiny photographs, and a project on it whose stages run as dvc.yaml says."""

import contextlib
import functools
import importlib
import io
import json
import os
import re
import runpy
import sys
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import yaml
from PIL import Image

HOME = Path(__file__).resolve().parents[1]
SIZE = 24
CLASSES = ("background", "red", "green", "blue", "yellow")
COLOURS = ((90, 90, 90), (220, 30, 30), (30, 200, 30), (40, 40, 220), (220, 210, 40))
TRAIN = {
    "t0": (1,),
    "t1": (2,),
    "t2": (1, 3),
    "t3": (3,),
    "t4": (2, 4),
    "t5": (4,),
    "t6": (3, 4),
    "t7": (1, 2, 3, 4),
}
VAL = {"v0": (1,), "v1": (2, 3), "v2": (4,), "v3": (1, 2, 3, 4)}
"""Names of the images and the classes each shows."""

TINY = (
    "scenario=shapes/4-2",
    "method=mib",
    "steps.step0.classes=[red,green]",
    "steps.step1.classes=[blue]",
    "steps.step2.classes=[yellow]",
    "model.widths=[4,4,8,8]",
    "schedule.base.epochs=1",
    "schedule.increment.epochs=1",
    "optimizer.batch_size=2",
    "augmentation.size=16",
    "evaluation.panels=1",
    "evaluation.batch_size=4",
)
WITHOUT_TORCH = ("index", "split", "pseudo_label@step1", "memory@step1", "synthesize@step1")
WITH_TORCH = (
    "check",
    *(f"{stage}@step{k}" for k in range(3) for stage in ("train", "evaluate")),
    "report",
)


def draw(shown: Iterable[int]) -> tuple[np.ndarray, np.ndarray]:
    """Returns a photograph and its labels: a square with a void border for each class shown."""
    labels = np.zeros((SIZE, SIZE), np.uint8)
    photograph = np.empty((SIZE, SIZE, 3), np.uint8)
    photograph[:] = COLOURS[0]
    for label in shown:
        top, left = 12 * ((label - 1) // 2), 12 * ((label - 1) % 2)
        labels[top + 1 : top + 11, left + 1 : left + 11] = 255
        labels[top + 2 : top + 10, left + 2 : left + 10] = label
        photograph[top + 2 : top + 10, left + 2 : left + 10] = COLOURS[label]
    return photograph, labels


def write_labels(path: Path, labels: np.ndarray) -> None:
    """Writes a grey PNG of label values."""
    Image.fromarray(labels).save(path)


def write_dataset(root: Path) -> Path:
    """Writes the dataset in Pascal VOC's layout."""
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True)
    (root / "classes.txt").write_text("".join(f"{name}\n" for name in CLASSES))
    for part, images in {"train": TRAIN, "val": VAL}.items():
        names = "".join(f"{name}\n" for name in images)
        (root / "ImageSets" / "Segmentation" / f"{part}.txt").write_text(names)
        for name, shown in images.items():
            photograph, labels = draw(shown)
            Image.fromarray(photograph).save(root / "JPEGImages" / f"{name}.jpg", quality=95)
            write_labels(root / "SegmentationClass" / f"{name}.png", labels)
    return root


@functools.cache
def composed(*overrides: str) -> str:
    """Returns the parameters as Hydra composes them from conf/, as YAML."""
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    with initialize_config_dir(str(HOME / "conf"), version_base=None):
        return OmegaConf.to_yaml(compose("config", overrides=list(overrides)), resolve=True)


class Outcome(NamedTuple):
    """What a command left: its exit status and what it printed."""

    status: int
    out: str
    err: str

    def refusal(self) -> str:
        """Returns the one line of a command that refused its input."""
        assert self.status == 2, self
        assert self.err.startswith("error: "), self
        assert self.err.count("\n") == 1, self
        assert self.err.endswith("\n"), self
        return self.err


def run_module(name: str, arguments: Iterable[str]) -> Outcome:
    """Runs `python -m name arguments` in this process."""
    out, err = io.StringIO(), io.StringIO()
    status: object = 0
    with (
        mock.patch.object(sys, "argv", [name, *arguments]),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        warnings.catch_warnings(),
    ):
        warnings.filterwarnings("ignore", ".*found in sys.modules.*", RuntimeWarning)
        try:
            runpy.run_module(name, run_name="__main__", alter_sys=True)
        except SystemExit as end:
            status = end.code
    return Outcome(int(status or 0), out.getvalue(), err.getvalue())  # type: ignore[call-overload]


class Project:
    """A folder with params.yaml, in which stages run by the commands of dvc.yaml."""

    def __init__(self, folder: Path, root: Path, *overrides: str) -> None:
        self.folder = folder
        self.root = root
        self.params: dict[str, Any] = yaml.safe_load(composed(*TINY, *overrides))
        self.params["dataset"]["root"] = str(root)
        self.write()

    def write(self) -> None:
        """Writes params.yaml."""
        text = yaml.safe_dump(self.params, sort_keys=False)
        (self.folder / "params.yaml").write_text(text)

    def set(self, key: str, value: object) -> None:
        """Sets a parameter, named with dots, whether it is there or not."""
        *path, last = key.split(".")
        functools.reduce(lambda at, name: at[name], path, self.params)[last] = value
        self.write()

    def commands(self) -> dict[str, list[str]]:
        """Returns the words of every stage's command, as DVC fills them in."""
        found = {}
        for name, stage in yaml.safe_load((HOME / "dvc.yaml").read_text())["stages"].items():
            if "foreach" not in stage:
                found[name] = self._filled(stage["cmd"], self.params)
                continue
            for key, item in self.params[stage["foreach"][2:-1]].items():
                values = {**self.params, "key": key, "item": item}
                found[f"{name}@{key}"] = self._filled(stage["do"]["cmd"], values)
        return found

    @staticmethod
    def _filled(command: str, values: dict[str, Any]) -> list[str]:
        def value(match: re.Match[str]) -> str:
            return str(functools.reduce(lambda at, name: at[name], match[1].split("."), values))

        return re.sub(r"\$\{([\w.]+)\}", value, command).split()

    def run(self, *stages: str) -> Outcome:
        """Runs stages in this process, all but the last expected to do well."""
        *before, last = stages
        for stage in before:
            outcome = self.run(stage)
            assert outcome.status == 0, (stage, outcome)
        python, dash_m, module, *arguments = self.commands()[last]
        assert (python, dash_m) == ("python", "-m")
        with contextlib.chdir(self.folder):
            return run_module(module, arguments)


def walk(folder: Path, root: Path) -> None:
    """Runs the whole pipeline and writes modules.json: what each stage has imported.

    Every stage runs in a fork of this process, which has to be a fresh one: nothing but what a
    stage imports by itself is there, except that torch is paid for once.
    """
    project = Project(folder, root)
    imported = {}
    for name in WITHOUT_TORCH:
        imported[name] = _forked(project, name)
    importlib.import_module("torchvision")
    for name in WITH_TORCH:
        imported[name] = _forked(project, name)
    (folder / "modules.json").write_text(json.dumps(imported))


def _forked(project: Project, name: str) -> list[str]:
    note = project.folder / "imported.json"
    child = os.fork()
    if child == 0:
        outcome = project.run(name)
        if outcome.status:
            print(name, *outcome, sep="\n", file=sys.stderr)
        note.write_text(json.dumps(sorted(sys.modules)))
        sys.stderr.flush()
        os._exit(outcome.status)
    _, status = os.waitpid(child, 0)
    if status:
        raise SystemExit(f"{name} failed")
    return json.loads(note.read_text())


@contextlib.contextmanager
def disk_full_beyond(size: int) -> Iterator[None]:
    """Lets no file of this process grow beyond `size` bytes: writes fail as on a full disk."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
