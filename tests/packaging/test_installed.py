"""The wheel, installed by pip into an environment of its own, gives the command."""

import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

import pytest

from tests.helpers.installation import build_wheel
from tests.helpers.tiny_dataset import HOME

pytestmark = [pytest.mark.slow, pytest.mark.long]


def test_pip_installs_the_command(tmp_path):
    """Without what it asks for, which is that of the environment of the tests."""
    pytest.importorskip("setuptools.build_meta", reason="the build backend, setuptools, is absent")
    (tmp_path / "build").mkdir()
    wheel = build_wheel(tmp_path / "build")
    environment = tmp_path / "environment"

    def run(*command):
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    run(sys.executable, "-m", "venv", str(environment))
    python = str(environment / "bin" / "python")
    run(python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", str(wheel))
    where = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
    others = sysconfig.get_path("purelib")
    Path(where, "others.pth").write_text(f"{others}\n")
    command = str(environment / "bin" / "cssegcore")
    version = tomllib.loads((HOME / "pyproject.toml").read_text())["project"]["version"]
    assert run(command, "--version") == f"cssegcore {version}\n"
    told = run(command, "--help")
    for name in ("init", "arrive", "import", "show", "train", "predict", "export", "compare"):
        assert f" {name} " in told
    assert "CSSEGCORE_DEVICE" in told
    place = run(python, "-c", "import cssegcore; print(cssegcore.__file__)")
    assert place.startswith(where)
    run(python, "-m", "pip", "uninstall", "--quiet", "--yes", "cssegcore")
    assert not (environment / "bin" / "cssegcore").exists()
