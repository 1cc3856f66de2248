"""The wheel holds library and pipeline, with their data files, and nothing else of the tree."""

import shutil
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml
from PIL import Image

from tests.helpers.installation import Installation, build_wheel
from tests.helpers.tiny_dataset import HOME, draw, write_lines

pytestmark = pytest.mark.slow

NO_PROGRAM = {".pyc"}
USE = """
import importlib.metadata, pathlib, sys
import cssegcore
from cssegcore.report import page
assert not {"torch", "cssegcore.api"} & set(sys.modules)
print(pathlib.Path(cssegcore.__file__).parent.parent)
print(*importlib.metadata.requires("cssegcore"), sep="\\n")
"""
CLOSURES = """
import json
from cssegcore_stages.common.code import closure
print(json.dumps(list(closure(["cssegcore_stages.train", "cssegcore.method.losses.ce"]))))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    pytest.importorskip("setuptools.build_meta", reason="the build backend, setuptools, is absent")
    return build_wheel(tmp_path_factory.mktemp("build"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    return Installation(wheel, tmp_path_factory.mktemp("installed"))


def files_of(folder, *patterns):
    found = (path for pattern in patterns for path in (HOME / folder).rglob(pattern))
    return {
        path.relative_to(HOME / folder).as_posix()
        for path in found
        if path.is_file() and path.suffix not in NO_PROGRAM
    }


def test_it_holds_every_file_of_library_and_pipeline_and_no_other(wheel):
    files = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    ours = {f"cssegcore/{name}" for name in files_of("cssegcore", "*")}
    ours |= {f"cssegcore_stages/{name}" for name in files_of("stages", "*")}
    for folder, pattern in (("conf", "*.*"), ("lists", "*.txt")):
        ours |= {f"cssegcore_stages/project/{folder}/{name}" for name in files_of(folder, pattern)}
    assert files == ours | {"cssegcore_stages/project/dvc.yaml"}
    assert "cssegcore/report/templates/page.html.j2" in files
    assert "cssegcore_stages/project/conf/hydra_plugins/steps.py" in files


def test_it_carries_the_licence(wheel):
    (licence,) = (name for name in zipfile.ZipFile(wheel).namelist() if name.endswith("/LICENSE"))
    assert zipfile.ZipFile(wheel).read(licence) == (HOME / "LICENSE").read_bytes()


def test_its_entry_point_is_the_command(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    (points,) = (name for name in names if name.endswith("/entry_points.txt"))
    text = zipfile.ZipFile(wheel).read(points).decode()
    assert "cssegcore = cssegcore_stages.__main__:main" in text


def test_it_is_imported_and_asks_for_the_pipelines_tools_as_an_extra_alone(installed, tmp_path):
    said = installed.run("python", "-c", USE, cwd=tmp_path)
    folder, *required = said.splitlines()
    assert Path(folder) == installed.folder
    for tool in ("dvc", "hydra-core", "mlflow", "pyyaml", "ruamel.yaml"):
        assert ["extra == " in line for line in required if line.startswith(tool)] == [True]
    for tool in ("torch>=", "typer>="):
        assert any(line.startswith(tool) and "extra" not in line for line in required)


def test_the_command_runs_without_a_clone_and_leaves_the_name_stages_free(installed, tmp_path):
    (tmp_path / "stages").mkdir()
    (tmp_path / "stages" / "__init__.py").write_text("raise SystemExit('of the user')")
    version = tomllib.loads((HOME / "pyproject.toml").read_text())["project"]["version"]
    said = installed.run("cssegcore", "--version", cwd=tmp_path)
    assert said == f"cssegcore {version}\n"
    usage = installed.run("cssegcore", "train", "--help", cwd=tmp_path)
    assert "Usage: cssegcore train" in usage
    refused = installed.run("cssegcore", "predict", "model", "nowhere", cwd=tmp_path, status=2)
    assert refused == "error: there is no photograph or folder nowhere: check the path.\n"


def test_code_is_found_where_it_is_installed(installed, tmp_path):
    found = installed.run("python", "-c", CLOSURES, cwd=tmp_path)
    for module in ("cssegcore_stages.train", "cssegcore_stages.common.cli", "cssegcore.core.files"):
        assert f'"{module}"' in found
    assert "cssegcore_stages.tracking" not in found


NAME = """
from cssegcore_stages.common.naming import name_run
from cssegcore_stages.common.params import read_raw
print(name_run(read_raw()).label)
"""


@pytest.fixture
def photographs(tmp_path):
    """A folder of twelve photographs of two classes, one held out by its name."""
    root = tmp_path / "my photos"
    for number in range(12):
        for folder, pixels in zip(("images", "labels"), draw([1 + number % 2], 4), strict=True):
            path = root / folder / f"image {number + 20}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
    write_lines(root / "classes.txt", ["background", "cow", "horse"])
    return root


def test_init_lays_out_a_project_and_keeps_what_is_there(installed, photographs, tmp_path):
    farm = tmp_path / "farm"
    (farm / "conf").mkdir(parents=True)
    installed.run("git", "init", "-q", cwd=farm)
    (farm / "README.md").write_text("mine\n")
    (farm / ".gitignore").write_text("secret")
    command = ("cssegcore", "init", str(farm), "--dataset", str(photographs))
    said = installed.run(*command, "--base", "1", "--increment", "1", cwd=tmp_path)
    assert "2 classes" in said
    params = yaml.safe_load((farm / "params.yaml").read_text())
    assert params["dataset"]["root"] == str(photographs)
    assert params["scenario"]["classes"] == {"step0": ["cow"], "step1": ["horse"]}
    assert params["scenario"]["last"] == "step1"
    pipeline = (farm / "dvc.yaml").read_text()
    assert "python -m" not in pipeline
    stages = yaml.safe_load(pipeline)["stages"]
    assert stages["check"]["deps"] == ["work/library.json", "conf"]
    ours = yaml.safe_load((HOME / "dvc.yaml").read_text())["stages"]
    assert list(stages) == ["library", *ours]
    assert (farm / ".gitignore").read_text().startswith("secret\n/work\n")
    assert (farm / "README.md").read_text() == "mine\n"
    assert "plugins_path = conf" in (farm / ".dvc/config").read_text()

    assert params["model"]["part"] == "small", "what suits photographs of few pixels"
    chosen = ("cssegcore", "compose", "params.yaml", "method/replay=deepinversion")
    installed.run(*chosen, cwd=farm)
    assert installed.run("python", "-c", NAME, cwd=farm) == "mib+deepinversion\n"

    # again: what a user changed since stays
    (farm / "conf/project.yaml").write_text("defaults: [config]\n")
    (farm / "params.yaml").write_text("seed: 5\n")
    again = installed.run(*command, cwd=tmp_path)
    assert "kept as it is: conf/project.yaml" in again
    assert (farm / "params.yaml").read_text() == "seed: 5\n"
    assert (farm / ".gitignore").read_text().count("/work") == 1

    (farm / "dvc.yaml").write_text("stages: {}\n")
    refused = installed.run(*command, cwd=tmp_path, status=2)
    assert "is another pipeline's: name another folder" in refused
    shutil.rmtree(farm)


def test_init_asks_for_a_dataset_first(installed, photographs, tmp_path):
    (photographs / "classes.txt").unlink()
    command = ("cssegcore", "init", "farm", "--dataset", str(photographs))
    refused = installed.run(*command, cwd=tmp_path, status=2)
    assert "classes.txt does not exist" in refused
    assert not (tmp_path / "farm").exists()


def test_init_takes_what_suits_the_photographs(installed, photographs, tmp_path):
    for path in photographs.rglob("*.png"):
        Image.open(path).resize((240, 200), Image.Resampling.NEAREST).save(path)
    command = ("cssegcore", "init", "farm", "--dataset", str(photographs))
    installed.run(*command, cwd=tmp_path)
    params = yaml.safe_load((tmp_path / "farm/params.yaml").read_text())
    assert (
        params["model"]["backbone"] | {"part": "mobilenet_v2", "weights": "imagenet"}
        == (params["model"]["backbone"])
    )
    assert params["augmentation"]["size"] == 192
    for path in photographs.glob("images/*.png"):
        path.write_bytes(b"")
    command = ("cssegcore", "init", "other", "--dataset", str(photographs))
    refused = installed.run(*command, cwd=tmp_path, status=2)
    assert "cannot be read" in refused
    assert not (tmp_path / "other").exists()


def test_the_digest_of_the_library_follows_its_files(installed, tmp_path):
    for name in ("a.json", "b.json"):
        installed.run("cssegcore", "library", name, cwd=tmp_path)
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    changed = installed.folder / "cssegcore" / "core" / "errors.py"
    text = changed.read_text()
    changed.write_text(text + "# another\n")
    installed.run("cssegcore", "library", "c.json", cwd=tmp_path)
    changed.write_text(text)
    assert (tmp_path / "a.json").read_bytes() != (tmp_path / "c.json").read_bytes()
