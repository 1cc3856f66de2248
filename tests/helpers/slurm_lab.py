"""A repository as a lab has it, whose two stages are shell scripts that tell when they run.

The parameters are composed from the real `conf/`, and DVC is the real one. A stage's line goes to
`ran` in the main repository (`DVC_ROOT`), whichever clone it runs in.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.helpers.dvc_project import REPOSITORY, Project

PIPELINE = """\
stages:
  base:
    cmd: sh stage.sh base
    deps: [stage.sh, data]
    params: [seed]
    outs: [work/base]
  increment:
    cmd: sh stage.sh increment
    deps: [stage.sh, work/base]
    params: [seed, method.name]
    outs: [work/increment]
"""
STAGE = """\
set -e
echo "$1" >> "$DVC_ROOT/ran"
if [ -e "$DVC_ROOT/hold" ]; then echo "$CUDA_VISIBLE_DEVICES" > "$DVC_ROOT/held"; sleep 60; fi
mkdir -p work
{ echo "# $1"; cat params.yaml; } > "work/$1"  # a file for each stage and its parameters
"""
GRID = "method=ft seed=3\nmethod=mib 'seed=3'\n"


class Lab(Project):
    """The main repository, and clones of it."""

    def __init__(self, root: Path, commands: Path) -> None:
        super().__init__(root, commands)
        self.commands = commands
        (root / "dvc.yaml").write_text(PIPELINE)
        (root / "stage.sh").write_text(STAGE)
        (root / "grids").mkdir()
        (root / "grids" / "two.txt").write_text(GRID)
        with (root / ".gitignore").open("a") as ignored:
            ignored.write("/ran\n/hold\n/held\n")
        self.run("git", "add", "-A")
        self.run("git", "commit", "-qm", "a pipeline of two stages")

    def ran(self) -> list[str]:
        """Returns which stages ran since this was last asked."""
        told = self.root / "ran"
        names = told.read_text().split() if told.exists() else []
        told.unlink(missing_ok=True)
        return names

    def clone(self, folder: Path, cache: Path | None = None) -> "Clone":
        """Clones as a second person does, with a cache of its own or this one."""
        subprocess.run(["git", "clone", "-q", self.root, folder], check=True)
        clone = Clone(folder, self)
        if cache is not None:
            clone.run("dvc", "cache", "dir", "--local", str(cache))
        return clone


class Clone(Lab):
    """A clone, whose stages tell the main repository that they ran."""

    def __init__(self, root: Path, of: Lab) -> None:
        self.root, self._path, self.of = root, of._path, of

    def run(self, *command: str) -> str:
        return super().run("env", f"DVC_ROOT={self.of.root}", *command)


class Slurm:
    """Stands in for SLURM: starts a task's script, signals it, notes what is requeued."""

    def __init__(self, folder: Path, lab: Lab) -> None:
        self.folder, self.lab = folder, lab
        self.temporary = folder / "temporary"
        self.temporary.mkdir()
        scontrol = folder / "bin" / "scontrol"
        scontrol.parent.mkdir()
        scontrol.write_text(f'#!/bin/sh\necho "$*" >> "{folder}/requeued"\n')
        scontrol.chmod(0o755)
        self.commit = lab.run("git", "rev-parse", "HEAD").strip()

    def requeued(self) -> str:
        told = self.folder / "requeued"
        return told.read_text() if told.exists() else ""

    def start(self, task: int, *, restarts: int = 0, real: bool = False) -> "subprocess.Popen[str]":
        """Starts one task; `real` has it run the real `dvc`, which signals can reach."""
        path = [self.folder / "bin", *([] if real else [self.lab.commands])]
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("DVC_", "MLFLOW_"))}
        environment |= {
            "PATH": ":".join(map(str, [*path, Path(sys.executable).parent, os.environ["PATH"]])),
            "SLURM_SUBMIT_DIR": str(self.lab.root),
            "SLURM_JOB_ID": f"10{task}",
            "SLURM_ARRAY_JOB_ID": "100",
            "SLURM_ARRAY_TASK_ID": str(task),
            "SLURM_RESTART_COUNT": str(restarts),
            "TMPDIR": str(self.temporary),
            "CUDA_VISIBLE_DEVICES": "5",
        }
        return subprocess.Popen(
            ["bash", REPOSITORY / "slurm" / "grid.sbatch", "grids/two.txt", self.commit],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def finish(self, task: int, **how: int) -> str:
        """Runs one task to its end and returns its log."""
        process = self.start(task, **how)
        log, _ = process.communicate()
        assert process.returncode == 0, log
        return log

    def interrupt(self, task: int, signal: int, **how: int) -> tuple[int, str]:
        """Sends a signal while a stage is at work; returns status and log."""
        hold, held = self.lab.root / "hold", self.lab.root / "held"
        hold.touch()
        process = self.start(task, real=True, **how)
        try:
            wait_for(lambda: held.exists() or process.poll() is not None)
            assert process.poll() is None, process.communicate()
        finally:
            process.send_signal(signal)
            log, _ = process.communicate()
        hold.unlink()
        held.unlink()
        return process.returncode, log


def wait_for(happened: Callable[[], bool]) -> None:
    """Waits for something that another process does."""
    end = time.monotonic() + 600
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.05)


def objects(cache: Path) -> set[str]:
    """Returns what a cache holds."""
    return {str(path.relative_to(cache)) for path in (cache / "files").rglob("*") if path.is_file()}
