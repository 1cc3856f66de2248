"""The wheel holds the library, with its data files, and nothing else of the tree."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.helpers.tiny_dataset import HOME

pytestmark = pytest.mark.slow

NO_PROGRAM = {".pyc"}
BUILD = "import sys, setuptools.build_meta as backend; print(backend.build_wheel(sys.argv[1]))"
USE = """
import importlib.metadata, pathlib, sys
import cssegcore
from cssegcore.report import page
assert not {"torch", "cssegcore.api"} & set(sys.modules)
print(pathlib.Path(cssegcore.__file__).parent.parent)
print(*importlib.metadata.requires("cssegcore"), sep="\\n")
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Builds the wheel of a copy of the tree, so that the build leaves nothing here."""
    pytest.importorskip("setuptools.build_meta", reason="the build backend, setuptools, is absent")
    tree, out = tmp_path_factory.mktemp("tree"), tmp_path_factory.mktemp("dist")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(HOME / name, tree)
    for name in ("cssegcore", "stages", "tests", "bench", "conf", "docs"):
        shutil.copytree(HOME / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    done = subprocess.run(
        [sys.executable, "-c", BUILD, str(out)],
        cwd=tree,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (path,) = out.glob("*.whl")
    return path


def test_it_holds_every_file_of_the_library_and_no_other(wheel):
    files = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    ours = (path for path in (HOME / "cssegcore").rglob("*") if path.is_file())
    assert files == {
        path.relative_to(HOME).as_posix() for path in ours if path.suffix not in NO_PROGRAM
    }
    assert "cssegcore/report/templates/page.html.j2" in files


def test_it_carries_the_licence(wheel):
    (licence,) = (name for name in zipfile.ZipFile(wheel).namelist() if name.endswith("/LICENSE"))
    assert zipfile.ZipFile(wheel).read(licence) == (HOME / "LICENSE").read_bytes()


def test_unpacked_it_is_imported_and_asks_for_the_pipelines_tools_as_an_extra_alone(
    wheel, tmp_path
):
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", USE],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    folder, *required = done.stdout.splitlines()
    assert Path(folder) == tmp_path
    for tool in ("dvc", "hydra-core", "mlflow", "pyyaml", "typer"):
        assert ["extra == " in line for line in required if line.startswith(tool)] == [True]
    assert any(line.startswith("torch>=") and "extra" not in line for line in required)
