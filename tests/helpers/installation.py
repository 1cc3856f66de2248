"""The wheel, built and unpacked: the project as it is where nobody has a clone of it."""

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

from tests.helpers.tiny_dataset import HOME

BUILD = "import sys, setuptools.build_meta as backend; print(backend.build_wheel(sys.argv[1]))"
SCRIPT = """\
#!{python}
import sys
from cssegcore_stages.__main__ import main
sys.exit(main())
"""
"""As pip writes it for an entry point."""


def build_wheel(folder: Path) -> Path:
    """Builds the wheel of a copy of the tree below `folder`, so that the build leaves nothing here.

    What a wheel has no use for is copied as well, to see that it stays behind.
    """
    tree, out = folder / "tree", folder / "dist"
    tree.mkdir()
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE", "dvc.yaml", "params.yaml"):
        shutil.copy(HOME / name, tree)
    for name in ("cssegcore", "stages", "tests", "bench", "conf", "docs", "lists"):
        shutil.copytree(HOME / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    done = subprocess.run(
        [sys.executable, "-c", BUILD, str(out)],
        cwd=tree,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    shutil.rmtree(tree)
    (path,) = out.glob("*.whl")
    return path


class Installation:
    """A wheel that is unpacked, with its command, in an environment without the clone.

    `commands` is a folder of `forked_python`, whose commands then go before those here.
    """

    def __init__(self, wheel: Path, folder: Path, commands: Path | None = None) -> None:
        self.folder = folder
        self._first = [commands] if commands else []
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder)
        script = folder / "bin" / "cssegcore"
        script.parent.mkdir()
        script.write_text(SCRIPT.format(python=sys.executable))
        script.chmod(0o755)

    @property
    def environment(self) -> Mapping[str, str]:
        """Variables for commands that use it."""
        ours = ("DVC_", "MLFLOW_", "CSSEGCORE_", "RANK", "LOCAL_RANK", "WORLD_SIZE", "PYTHON")
        kept = {k: v for k, v in os.environ.items() if not k.startswith(ours)}
        places = (*self._first, self.folder / "bin", Path(sys.executable).parent)
        return kept | {
            "PATH": os.pathsep.join([*map(str, places), kept["PATH"]]),
            "PYTHONPATH": str(self.folder),
            "PYTHONDONTWRITEBYTECODE": "1",
            "OMP_NUM_THREADS": "1",
            "CSSEGCORE_TRACKING": "off",
            "CSSEGCORE_DEVICE": "cpu",
            "GIT_AUTHOR_NAME": "tests",
            "GIT_AUTHOR_EMAIL": "tests@example.org",
            "GIT_COMMITTER_NAME": "tests",
            "GIT_COMMITTER_EMAIL": "tests@example.org",
        }

    def run(self, *command: str, cwd: Path, status: int = 0) -> str:
        """Runs a command and returns what it printed."""
        done = subprocess.run(
            command, cwd=cwd, env=self.environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == status, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr
