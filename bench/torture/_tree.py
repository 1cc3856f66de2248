"""A tiny project in which the whole pipeline ran, so that any stage can be run once more."""

import hashlib
import importlib
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from bench.torture._trial import LIMIT, Ended, Kill, at, command, forked
from cssegcore.core.files import TEMPORARY, digest
from tests.helpers import tiny_dataset as scenes

KINDS: dict[str, tuple[str, ...]] = {
    "plain": ("method=mib",),
    "exemplars": (
        "method=ssul_m",
        "method.replay.size=3",
        "+evaluation.metrics={sharp:{part:boundary_iou,width:0.1}}",
    ),
    "images": (
        "method=mib",
        "method/replay=deepinversion",
        "method.replay.per_class=1",
        "method.replay.agreement=0",
        "method.replay.inversion.phases=[[1, 2]]",
    ),
}
"""Recipes in which, together, every stage has something to do."""

PROGRAM = ("cssegcore/**/*.py", "stages/**/*.py", "conf/**/*.yaml", "tests/helpers/tiny_dataset.py")
"""The files whose change makes a walked project an old one."""

SLOW_TO_IMPORT = (
    "torch",
    "matplotlib.pyplot",
    "jinja2",
    "safetensors.torch",
    "cssegcore.api.step",
    "cssegcore.evaluation.evaluate",
    "cssegcore.evaluation.examples",
    "cssegcore.evaluation.predict",
    "cssegcore.inversion.synthesis",
    "cssegcore.report.write",
    "cssegcore.saliency.maps",
    "cssegcore.training.setup",
    "stages.common.code",
    "stages.common.processes",
    "stages.common.reporting",
    "stages.common.scenarios",
)


def import_once() -> None:
    """Imports what is slow to import, for all forks to come."""
    import torch

    for name in SLOW_TO_IMPORT:
        importlib.import_module(name)
    torch.set_num_threads(1)
    from stages.common.code import closure
    from stages.common.home import HOME

    files = [path.relative_to(HOME) for path in HOME.glob("[cs]*/**/*.py") if "." not in path.stem]
    named = [".".join(path.with_suffix("").parts) for path in files]
    closure(name.removesuffix(".__init__") for name in named)  # `check` parses every file


TIMED = ("timing.json", "report.html")
"""Files that equal trainings do not share: they tell how many seconds one took."""

EPOCHS = ("schedule.base.epochs=2", "schedule.increment.epochs=2")
"""Two, so that a training can be killed between them."""


class Tree:
    """The project, its dataset and what each stage made.

    Attributes:
        folder: Of the project.
        root: Of the dataset.
        params: Of the project.
        ended: How the undisturbed stages ended.
    """

    def __init__(self, place: Path, kind: str = "plain", *overrides: str) -> None:
        self.place, self.kind = place, kind
        self.folder = place / "project"
        self.folder.mkdir(parents=True)  # below a place that may be there
        self.root = scenes.make_scenes(place / "dataset")
        self.project = scenes.Project(self.folder, self.root, *KINDS[kind], *EPOCHS, *overrides)
        self.params = self.project.params
        self.ended: dict[str, Ended] = {}
        self._outs = outs(self.params)
        self._wanted: dict[str, dict[str, str]] = {}
        self._dataset = digests(self.root)

    @classmethod
    def walked(cls, folder: Path, kind: str) -> "Tree":
        """Returns a fresh project in which every stage ran.

        It always lies at one place below `folder`, since its path is in its results, and is
        walked once for all families.
        """
        place, kept = folder / kind, folder / f"{kind}.kept"
        for path in place.iterdir() if place.is_dir() else ():  # which may be a disk of its own
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        program = _program(kind)
        note = kept / "walked.pickle"
        if note.is_file() and pickle.loads(note.read_bytes())[0] == program:
            shutil.copytree(kept, place, dirs_exist_ok=True)
            _, tree = pickle.loads(note.read_bytes())
            return tree
        shutil.rmtree(kept, ignore_errors=True)
        tree = cls(place, kind).walk()
        shutil.copytree(place, kept)
        note.write_bytes(pickle.dumps((program, tree)))
        return tree

    def walk(self, *stages: str) -> "Tree":
        """Runs the stages, or all, undisturbed."""
        for stage in stages or scenes.EVERY_STAGE:
            ended = self.run(stage)
            if ended.status != 0 or ended.crashed or ended.outside:
                raise SystemExit(f"{stage} does not run undisturbed: {ended}")
            self.ended[stage] = ended
            self._wanted[stage] = self.made(stage)
        return self

    def run(
        self,
        stage: str,
        *,
        seconds: float = LIMIT,
        kill: Kill | None = None,
        first: Callable[[], object] | None = None,
        **environment: str | None,
    ) -> Ended:
        """Runs a stage; `first` is called in its process before."""
        return self.call(
            self.project.commands[stage], seconds=seconds, kill=kill, first=first, **environment
        )

    def call(
        self,
        arguments: list[str],
        *,
        seconds: float = LIMIT,
        kill: Kill | None = None,
        first: Callable[[], object] | None = None,
        **environment: str | None,
    ) -> Ended:
        """Runs `python -m …` in the project."""
        variables: dict[str, str | None] = {
            "CSSEGCORE_TRACKING": "off",
            "CSSEGCORE_DEVICE": "cpu",
            "DVC_ROOT": None,
            **environment,
        }

        def work() -> int:
            if first:
                first()
            return command(arguments)

        inside = (self.folder / "work", self.folder / ".cssegcore", self.folder / "labelled")
        with at(self.folder, **variables):
            return forked(work, inside, seconds=seconds, kill=kill)

    def outs(self, stage: str) -> list[Path]:
        """Returns the files and folders that a stage makes."""
        return [self.folder / out for out in self._outs[stage]]

    def clear(self, stage: str) -> None:
        """Removes what a stage makes, as DVC does before it runs it."""
        for path in self.outs(stage):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)

    def anew(self, stage: str) -> None:
        """Removes what a stage makes, and the finished state that it would be taken from."""
        self.clear(stage)
        shutil.rmtree(self.folder / ".cssegcore" / "resume", ignore_errors=True)

    def made(self, stage: str) -> dict[str, str]:
        """Returns a digest of each file that a stage made, but not of what it left half done."""
        found = {k: v for path in self.outs(stage) for k, v in digests(path, self.folder).items()}
        return results(found)

    def same(self, stage: str) -> bool:
        """Whether all that a stage made is what it made undisturbed."""
        return self.made(stage) == self._wanted[stage]

    def pristine(self) -> bool:
        """Whether the dataset is as it was."""
        return digests(self.root) == self._dataset


def _program(kind: str) -> str:
    files = [path for pattern in PROGRAM for path in sorted(scenes.HOME.glob(pattern))]
    return digest(repr((KINDS[kind], EPOCHS)).encode(), *(path.read_bytes() for path in files))


def digests(path: Path, below: Path | None = None) -> dict[str, str]:
    """Returns a digest of a file, or of each file in a folder, by its path."""
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    return {
        str(file.relative_to(below or path)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in files
    }


def results(found: dict[str, str]) -> dict[str, str]:
    """Leaves out what tells the seconds of a training, and what a killed process left half done."""
    names = {path: Path(path).name for path in found}
    return {
        path: found[path]
        for path, name in names.items()
        if name not in TIMED and not name.startswith(TEMPORARY)
    }


def outs(params: dict[str, Any]) -> dict[str, list[str]]:
    """Returns what each stage of dvc.yaml makes."""
    found = {}
    for name, stage in yaml.safe_load((scenes.HOME / "dvc.yaml").read_text())["stages"].items():
        if "foreach" not in stage:
            found[name] = [*stage.get("outs", ()), *stage.get("metrics", ())]
            continue
        for key in params[stage["foreach"][2:-1]]:
            listed = [*stage["do"].get("outs", ()), *stage["do"].get("metrics", ())]
            found[f"{name}@{key}"] = [out.replace("${key}", key) for out in listed]
    return found
