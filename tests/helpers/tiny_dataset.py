"""A dataset of twelve tiny photographs, and a project on it whose stages run as dvc.yaml says."""

import contextlib
import functools
import importlib
import io
import json
import math
import os
import re
import runpy
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import yaml
from PIL import Image

from cssegcore.core.errors import InputWarning

HOME = Path(__file__).resolve().parents[2]
CLASSES = ("red", "green", "blue", "yellow")
CELL = 12
COLOURS = np.array([[90, 90, 90], *np.random.default_rng(0).integers(0, 256, (8, 3))], np.uint8)

TINY = (
    "scenario=shapes/4-2",
    "method=mib",
    "scenario.classes.step0=[red,green]",
    "scenario.classes.step1=[blue]",
    "scenario.classes.step2=[yellow]",
    "model.backbone.stem=[8,8]",
    "model.backbone.widths=[8,8,8]",
    "model.depth=8",
    "schedule.base.epochs=1",
    "schedule.increment.epochs=1",
    "optimizer.batch_size=2",
    "augmentation.size=16",
    "evaluation.examples=1",
    "evaluation.batch_size=4",
)
MISREAD = ["no", "off", "yes", "null", "~", "1:30", "010", "1e3", "1e+3", "6e-2", ".5", "0x1F"]
MISREAD += ["0o17", "2024-01-01", "=", "<<", "- a", "a: b", "a #b", "'q'", '"d"', "\\"]
"""Names that one reader of YAML or another takes for something else if no quotes are around."""
BEFORE_TRAINING = ("check", "index", "split", "saliency")
BEFORE_STEP = ("memory", "synthesize", "pseudo_label")
WITHOUT_TORCH = (
    *BEFORE_TRAINING[1:],
    *(f"{stage}@step{k}" for k in (1, 2) for stage in BEFORE_STEP),
)
"""Of a method that replays nothing, guesses nothing and has no unknown class."""
EVERY_STAGE = (
    *BEFORE_TRAINING,
    "train@step0",
    "evaluate@step0",
    *(f"{stage}@step{k}" for k in (1, 2) for stage in (*BEFORE_STEP, "train", "evaluate")),
    "report",
)
"""In an order in which each finds what it needs."""


def train_images(count: int) -> list[list[int]]:
    """Returns the classes that each training image shows: one, two neighbours, or all."""
    every = list(range(1, count + 1))
    return [[k] for k in every] + [[k, k + 1] for k in every[:-1]] + [every]


def val_images(count: int) -> list[list[int]]:
    """Returns the classes that each validation image shows: one or all."""
    every = list(range(1, count + 1))
    return [[k] for k in every] + [every]


def draw(shown: Iterable[int], count: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns a photograph and its labels: a square with a void border for each class shown."""
    side = math.ceil(math.sqrt(count))
    labels = np.zeros((CELL * side, CELL * side), np.uint8)
    for label in shown:
        top, left = (CELL * place for place in divmod(label - 1, side))
        labels[top + 1 : top + 11, left + 1 : left + 11] = 255
        labels[top + 2 : top + 10, left + 2 : left + 10] = label
    return COLOURS[np.where(labels == 255, 0, labels)], labels


def make_scenes(root: Path, classes: Sequence[str] = CLASSES) -> Path:
    """Writes a dataset in Pascal VOC's layout: t0, t1, … to train on, v0, v1, … to test on."""
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True)
    write_lines(root / "classes.txt", ["background", *classes])
    for part, images in (("train", train_images), ("val", val_images)):
        contents = {f"{part[0]}{i}": shown for i, shown in enumerate(images(len(classes)))}
        write_lines(root / "ImageSets" / "Segmentation" / f"{part}.txt", contents)
        for name, shown in contents.items():
            photograph, labels = draw(shown, len(classes))
            # the comment: what shows the same in both parts is no leak
            path = root / "JPEGImages" / f"{name}.jpg"
            Image.fromarray(photograph).save(path, quality=95, comment=part.encode())
            Image.fromarray(labels).save(root / "SegmentationClass" / f"{name}.png")
    return root


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Writes a list file."""
    path.write_text("".join(f"{line}\n" for line in lines))


@functools.cache
def _composed(*overrides: str) -> str:
    from omegaconf import OmegaConf

    from stages.compose import composed as compose

    return json.dumps(OmegaConf.to_container(compose(overrides, HOME / "conf")))


def composed(*overrides: str) -> dict[str, Any]:
    """Returns the parameters as Hydra composes them from conf/."""
    return json.loads(_composed(*overrides))


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


def run_module(name: str, *arguments: str) -> Outcome:
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
        warnings.simplefilter("default", InputWarning)  # as in a process of its own
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
        self.params = composed(*TINY, *overrides)
        self.params["dataset"]["root"] = str(root)
        self.commands = commands(self.params)
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

    def run(self, *stages: str) -> Outcome:
        """Runs stages in this process, all but the last expected to do well."""
        outcome = Outcome(0, "", "")
        for stage in stages:
            assert outcome.status == 0, outcome
            outcome = run_module(*self.commands[stage])
        return outcome


def commands(params: dict[str, Any]) -> dict[str, list[str]]:
    """Returns every stage's module and arguments, filled in from dvc.yaml as DVC does."""
    found = {}
    for name, stage in _declared().items():
        if "foreach" not in stage:
            found[name] = _filled(stage["cmd"], params)
            continue
        for key, item in params[stage["foreach"][2:-1]].items():
            values = {**params, "key": key, "item": item}
            found[f"{name}@{key}"] = _filled(stage["do"]["cmd"], values)
    return found


@functools.cache
def _declared() -> dict[str, Any]:
    return yaml.safe_load((HOME / "dvc.yaml").read_text())["stages"]


def _filled(command: str, values: dict[str, Any]) -> list[str]:
    def value(match: re.Match[str]) -> str:
        return str(functools.reduce(lambda at, name: at[name], match[1].split("."), values))

    python, dash_m, *rest = re.sub(r"\$\{([\w.]+)\}", value, command).split()
    assert (python, dash_m) == ("python", "-m"), command
    return rest


def walk(*light: str) -> None:
    """Runs the whole pipeline here and writes modules.json: what each stage has imported.

    Every stage runs in a fork of this process, which has to be a fresh one: nothing but what a
    stage imports by itself is there, except that what is slow to import is paid for once, after
    the stages `light`.
    """
    every = commands(yaml.safe_load(Path("params.yaml").read_text()))
    code = Path("work/code")  # `check`, which writes it, is none of `light`
    code.mkdir(parents=True)
    for stage in ("split", *BEFORE_STEP):
        (code / f"{stage}.json").write_text('{"images": "[1, 1]"}')
    imported = {name: _forked(every[name]) for name in light}
    for paid_once in ("torch", "matplotlib.pyplot"):
        importlib.import_module(paid_once)
    imported |= {name: _forked(every[name]) for name in EVERY_STAGE if name not in light}
    Path("modules.json").write_text(json.dumps(imported))


def _forked(command: list[str]) -> list[str]:
    note = Path("imported.json")
    child = os.fork()
    if child == 0:
        outcome = run_module(*command)
        note.write_text(json.dumps(sorted(sys.modules)))
        os.write(2, outcome.err.encode())
        os._exit(outcome.status)
    _, status = os.waitpid(child, 0)
    if status:
        raise SystemExit(f"{command} failed")
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
