"""Each recipe of CONTRIBUTING.md, added to a copy of the tree whose pipeline then uses it."""

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml
from PIL import Image
from safetensors import safe_open

from tests.helpers.tiny_dataset import HOME, make_scenes

pytestmark = pytest.mark.slow

TEXT = (HOME / "CONTRIBUTING.md").read_text()
SLOTS = {
    "tests/method/losses/test_every_loss.py": "(halves or void or finite) and focused_ce",
    "tests/models/backbones/test_every_backbone.py": "part_is_a_value and plain",
    "tests/data/augmentation/test_slot.py": "decides and grayscale",
    "tests/data/augmentation/test_grayscale.py": "colours",
}
"""Tests that find a new part by themselves, and those of them that are of it."""
COPIED = ("cssegcore", "stages", "conf", "tests/helpers", "tests/data/augmentation")
OVERRIDES = (
    "evaluation.shared=allow",  # the tiny photographs are drawn without noise
    "method=focused",
    "model/backbone=plain",
    "model.backbone.width=8",
    "dataset=side_by_side",
    "optimizer=sign_descent",
    "+augmentation.transforms=[{part: grayscale}]",
    "+evaluation.metrics.median_iou.part=median_iou",
)
RUN = """
import sys
from pathlib import Path
from tests.helpers import tiny_dataset as scenes
scenes.TINY = tuple(o for o in scenes.TINY if not o.startswith("model.backbone."))
project = scenes.Project(Path.cwd(), Path(sys.argv[1]), *sys.argv[2:])
outcome = project.run(*scenes.EVERY_STAGE)
assert outcome.status == 0, outcome
"""


class Block(NamedTuple):
    """A block of code: where it goes, and what it is."""

    title: str
    place: str
    code: str


def blocks():
    """Reads the blocks and the titles above them."""
    found = []
    for part in re.split(r"^## ", TEXT, flags=re.M)[1:]:
        for head, code in re.findall(r"^```\w+\n# ([^\n]+)\n(.*?)^```$", part, re.M | re.S):
            found.append(Block(part.splitlines()[0], head, code))
    return found


def add(tree, block):
    """Writes a block as its first line says: a file, or lines below or instead of one line."""
    match = re.fullmatch(r"(\S+)(?:, (below|instead of) `(.+)`)?", block.place)
    assert match, block.place
    path, how, line = match.groups()
    file = tree / path
    if how is None:
        assert not file.exists(), f"{path} is there already"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(block.code)
        return
    text = file.read_text()
    assert text.count(f"\n{line}\n") == 1, f"{path} has no line {line!r}"
    kept = f"{line}\n" if how == "below" else ""
    file.write_text(text.replace(f"\n{line}\n", f"\n{kept}{block.code}"))


def run(tree, cwd, *command):
    environment = {**os.environ, "PYTHONPATH": str(tree), "CSSEGCORE_TRACKING": "off"}
    environment |= {"CSSEGCORE_DEVICE": "cpu", "OMP_NUM_THREADS": "1"}
    for name in ("DVC_ROOT", "CSSEGCORE_PROCESSES"):
        environment.pop(name, None)
    done = subprocess.run(
        [sys.executable, *command],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def arrange(scenes, root):
    """Puts the tiny dataset in the order of the layout that CONTRIBUTING.md adds."""
    root.mkdir()
    shutil.copy(scenes / "classes.txt", root)
    lists = scenes / "ImageSets" / "Segmentation"
    for listed in ("train", "val"):
        shutil.copy(lists / f"{listed}.txt", root)
    shutil.copy(lists / "val.txt", root / "test.txt")
    for photograph in (scenes / "JPEGImages").iterdir():
        name = photograph.stem
        Image.open(photograph).save(root / f"{name}.photo.png")
        shutil.copy(scenes / "SegmentationClass" / f"{name}.png", root / f"{name}.label.png")
    return root


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A copy of the tree with every block of CONTRIBUTING.md in it."""
    tree = tmp_path_factory.mktemp("tree")
    for name in COPIED:
        shutil.copytree(HOME / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    for test in SLOTS:
        for place in (test, *(f"{p}/__init__.py" for p in Path(test).parents)):
            if (HOME / place).exists() and not (tree / place).exists():
                (tree / place).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(HOME / place, tree / place)
    for name in ("dvc.yaml", "pyproject.toml"):
        shutil.copy(HOME / name, tree / name)
    for block in blocks():
        add(tree, block)
    return tree


@pytest.fixture(scope="module")
def work(tree, tmp_path_factory):
    """The folder `work` after a whole pipeline that uses everything that was added."""
    root = arrange(
        make_scenes(tmp_path_factory.mktemp("scenes") / "voc"),
        tmp_path_factory.mktemp("data") / "side_by_side",
    )
    folder = tmp_path_factory.mktemp("project")
    run(tree, folder, "-c", RUN, str(root), *OVERRIDES)
    return folder / "work"


def description(work):
    with safe_open(work / "step1/model.safetensors", "pt") as file:
        return json.loads(file.metadata()["cssegcore"]), set(file.keys())


def code(work, table):
    return json.loads((work / "code" / f"{table}.json").read_text())


def test_every_kind_that_is_promised_has_a_recipe():
    titles = {block.title.removeprefix("To add a").strip() for block in blocks()}
    promised = {"loss", "method", "backbone", "dataset layout", "stage", "metric"}
    assert titles == promised | {"n augmentation", "n optimizer"}


def test_loss_and_method(work):
    with (work / "step1/epochs.csv").open(newline="") as lines:
        (row,) = csv.DictReader(lines)
    assert float(row["focused_ce"]) > 0
    assert float(row["kd"]) > 0
    assert "cssegcore.method.losses.focused_ce" in code(work, "method")


def test_backbone(work):
    model, weights = description(work)
    assert model["network"]["backbone"] == {"part": "plain", "width": 8}
    assert "extractor.backbone.stages.0.0.0.weight" in weights


def test_dataset_layout(work):
    assert "cssegcore.data.layouts.side_by_side" in code(work, "index")
    assert (
        len((work / "index.csv").read_text().splitlines()) == 1 + 8 + 5 + 1
    )  # head, train, val, digest


def test_stage(work, tree):
    assert json.loads((work / "census.json").read_text()) == {"step0": 5, "step1": 4, "step2": 3}
    assert "stages.census" in code(work, "census")
    stage = yaml.safe_load((tree / "dvc.yaml").read_text())["stages"]["census"]
    assert stage["outs"] == ["work/census.json"]


def test_metric(work):
    metrics = json.loads((work / "step1/metrics.json").read_text())
    assert 0 <= metrics["median_iou"]["all"] <= 100
    assert "<h2>median_iou</h2>" in (work / "report/report.html").read_text()


def test_augmentation(work):
    assert "cssegcore.data.augmentation.grayscale" in code(work, "method")


def test_the_tests_of_whole_slots_find_what_was_added(tree):
    options = ["-q", "-p", "no:cacheprovider", "-c", str(tree / "pyproject.toml")]
    chosen = " or ".join(f"({name})" for name in SLOTS.values())
    found = run(tree, tree, "-m", "pytest", *options, *SLOTS, "-k", chosen, "-rA")
    for test, name in SLOTS.items():
        assert re.search(f"PASSED {test}.*{name.split()[-1]}", found), found


def test_optimizer(work):
    assert "cssegcore.training.optimizer.sign_descent" in code(work, "method.base")


def test_the_added_files_are_laid_out_as_the_others(tree):
    added = [tree / block.place for block in blocks() if block.place.endswith(".py")]
    own = [str(path.relative_to(tree)) for path in added]
    ruff = str(Path(sys.executable).with_name("ruff"))
    for command in (["check", "-q"], ["format", "-q", "--check"]):
        done = subprocess.run([ruff, *command, *own], cwd=tree, capture_output=True, check=False)
        assert done.returncode == 0, done.stdout.decode()
