"""Two processes that train the same step at once, as two workers of DVC's queue do.

Each runs in a fork of this process, in a copy of the current folder, a project, which is the main
repository of both (`DVC_ROOT`).
"""

import hashlib
import json
import os
import runpy
import shutil
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import yaml

from cssegcore.training.trainer import Trainer
from stages.common import once
from tests.helpers.tiny_dataset import commands

STAGE = "train@step0"
RESULTS = ("model.safetensors", "epochs.csv")
LATE = 3
"""Epoch before which the first one sees to it that the other one waits."""


def main() -> None:
    """Tells as JSON what came of each pair."""
    torch.set_num_threads(1)
    once.BEAT = 0.2
    os.environ["DVC_ROOT"] = str(Path.cwd())
    told = {}
    for name in ("together", "the first is killed", "the second is interrupted"):
        shutil.rmtree(".cssegcore", ignore_errors=True)
        first, second = Worker("first"), Worker("second")
        first.start()
        first.wait_for("epoch 1")
        second.start()
        second.wait_for("waiting")
        if name == "the first is killed":
            os.kill(first.process, signal.SIGKILL)
        if name == "the second is interrupted":
            os.kill(second.process, signal.SIGINT)
        told[name] = {"first": first.end(), "second": second.end()}
        told[name]["states"] = sorted(p.suffix for p in Path(".cssegcore/resume").iterdir())
    Path("told.json").write_text(json.dumps(told))


class Worker:
    """A process that trains in a folder of its own."""

    def __init__(self, name: str, *, old: bool = False) -> None:
        self.folder = Path(os.environ["DVC_ROOT"]) / name
        self.log = self.folder / "log"
        if old:
            return
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()
        shutil.copy("params.yaml", self.folder)
        shutil.copytree("work", self.folder / "work")
        self.log.touch()

    def start(self) -> None:
        """Forks."""
        self.process = os.fork()
        if self.process:
            return
        os.chdir(self.folder)
        module, *arguments = commands(yaml.safe_load(Path("params.yaml").read_text()))[STAGE]
        with self.log.open("a", buffering=1) as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
        sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
        sys.argv, status = [module, *arguments], 0
        with mock.patch.object(Trainer, "epoch", self._epoch(Trainer.epoch)):
            try:
                runpy.run_module(module, run_name="__main__", alter_sys=True)
            except SystemExit as end:
                status = int(end.code or 0)
            except BaseException:  # noqa: BLE001 - told as a status
                traceback.print_exc()
                status = 99
        os._exit(status)

    def _epoch(self, real: Any) -> Any:
        def epoch(trainer: Trainer, running: Any, number: int, progress: Any) -> Any:
            with self.log.open("a") as log:
                log.write(f"trains epoch {number + 1}\n")
            if number == LATE:
                Worker("second", old=True).wait_for("waiting")
                time.sleep(0.3)
            return real(trainer, running, number, progress)

        return epoch

    def wait_for(self, words: str) -> None:
        """Waits until the process has said something."""
        end = time.monotonic() + 60
        while words not in self.log.read_text():
            assert time.monotonic() < end, (words, self.log.read_text())
            time.sleep(0.01)

    def end(self) -> dict[str, Any]:
        """Waits for the process's end and tells of it."""
        status = os.waitstatus_to_exitcode(os.waitpid(self.process, 0)[1])
        files = [self.folder / "work" / "step0" / name for name in RESULTS]
        digests = [hashlib.sha256(f.read_bytes()).hexdigest() for f in files if f.exists()]
        return {"status": status, "digests": digests, "log": self.log.read_text()}
