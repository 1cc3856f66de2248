"""A copy of the project in which tests run the real DVC."""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from cssegcore.data.shapes import make_dataset

REPOSITORY = Path(__file__).resolve().parents[2]

QUICK = [
    "schedule.base.epochs=2",
    "schedule.increment.epochs=1",
    "model.backbone.widths=[8,8,8]",
    "augmentation.size=32",
    "optimizer.batch_size=8",
    "evaluation.examples=2",
]


class Project:
    """A clone of the working tree with a small dataset, driven through the command line.

    `commands` is a folder with `python` and `dvc` in it, of `forked_python`; without it, the ones
    of this environment run.
    """

    def __init__(self, root: Path, commands: Path | None = None) -> None:
        self._stand(root, commands)
        listed = subprocess.run(
            ["git", "ls-files", "-co", "--exclude-standard"],
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            check=True,
        )
        for name in listed.stdout.split("\n"):
            source = REPOSITORY / name
            if name and source.is_file() and not name.startswith((".dvc/remote", "tests", "docs")):
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(source, root / name)
        for name in ("data.dvc", "dvc.lock"):
            (root / name).unlink(missing_ok=True)
        make_dataset(root / "data", seed=0, train=48, val=16, size=32)
        self.run("git", "init", "-q")
        self.run("git", "config", "user.email", "tests@example.org")
        self.run("git", "config", "user.name", "tests")
        self.compose()
        self.run("dvc", "add", "-q", "data")
        self.run("git", "add", "-A")
        self.run("git", "commit", "-qm", "start")

    @classmethod
    def cloned(cls, of: Path, root: Path, commands: Path | None = None) -> "Project":
        """Clones a repository; the clone has what is committed there and nothing else."""
        subprocess.run(["git", "clone", "-q", of, root], check=True)
        clone = cls.__new__(cls)
        clone._stand(root, commands)
        return clone

    def _stand(self, root: Path, commands: Path | None) -> None:
        self.root = root
        self._path = [*filter(None, [commands]), Path(sys.executable).parent, os.environ["PATH"]]

    def run(self, *command: str) -> str:
        """Runs a command in the project and returns what it printed."""
        ours = ("DVC_", "MLFLOW_", "CSSEGCORE_", "RANK", "LOCAL_RANK", "WORLD_SIZE")
        environment = {k: v for k, v in os.environ.items() if not k.startswith(ours)}
        environment |= {
            "PATH": os.pathsep.join(map(str, self._path)),
            "OMP_NUM_THREADS": "1",
            "CSSEGCORE_TRACKING": "off",
            "CSSEGCORE_DEVICE": "cpu",
        }
        done = subprocess.run(
            command, cwd=self.root, capture_output=True, text=True, env=environment, check=False
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr

    def compose(self, *overrides: str) -> None:
        """Writes params.yaml as `dvc exp run -S …` would."""
        self.run("python", "-m", "stages.compose", "params.yaml", *QUICK, *overrides)

    def repro(self, *overrides: str, targets: Sequence[str] = ()) -> set[str]:
        """Composes, runs `dvc repro` (all, or up to `targets`), returns stages that really ran."""
        self.compose(*overrides)
        return ran(self.run("dvc", "repro", *targets))

    def wait_for_queue(self) -> None:
        """Waits until no entry of DVC's queue is waiting or running."""
        end = time.monotonic() + 1800
        while re.search(r"\b(Queued|Running)\s*$", self.run("dvc", "queue", "status"), re.M):
            assert time.monotonic() < end, self.run("dvc", "queue", "status")
            time.sleep(1)

    def metrics(self) -> dict[str, bytes]:
        """Returns the bytes of every metrics file."""
        files = [*self.root.glob("work/step*/metrics.json"), self.root / "work/report/summary.json"]
        return {str(f.relative_to(self.root)): f.read_bytes() for f in files}


def ran(output: str) -> set[str]:
    """Reads from DVC's output which stages ran, not counting those restored from its cache."""
    return {
        line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage '")
    }
