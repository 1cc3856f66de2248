import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.helpers import tiny_dataset as scenes

UNHEARD = (
    "stages.tracking",
    "stages.serving",
    *(f"stages.common.{m}" for m in ("reporting", "places", "once", "home", "code", "unchanged")),
)
TREE = {
    "stages/__init__.py": "",
    "stages/common/__init__.py": "",
    "stages/run.py": (
        "def main():\n    from cssegcore import deep\n    import stages.common.reporting\n"
    ),
    "stages/common/reporting.py": "import cssegcore.unrelated\n",
    "stages/tracking/__init__.py": "",
    "cssegcore/__init__.py": "",
    "cssegcore/unrelated.py": "",
    "cssegcore/deep/__init__.py": "from cssegcore.deep.inner import value as value\n",
    "cssegcore/deep/inner.py": "from . import beside\nfrom ..uncle import nephew\nvalue = 1\n",
    "cssegcore/deep/beside.py": "import json, torch\n",
    "cssegcore/deep/sheet.css": "p {}\n",
    "cssegcore/uncle.py": "class A:\n    def f(self, x=1):\n        return x\n",
}


@pytest.fixture
def table(tmp_path):
    """Writes a small tree of modules and returns the digests of the code behind `stages.run`."""
    for name, text in TREE.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    for name in ("code.py", "home.py"):
        shutil.copy(scenes.HOME / "stages" / "common" / name, tmp_path / "stages" / "common")
    code = (
        "import json; from stages.common.code import closure;"
        " print(json.dumps(closure(['stages.run'])))"
    )

    def read(**changed):
        for name, text in changed.items():
            (tmp_path / name).write_text(text)
        command = [sys.executable, "-B", "-c", code]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return read


def changed(before, after):
    return {name for name in before | after if before.get(name) != after.get(name)}


def test_imports_are_followed_wherever_they_stand(table):
    assert set(table()) == {
        "stages",
        "stages.run",
        "cssegcore",
        "cssegcore.deep",
        "cssegcore.deep/sheet.css",
        "cssegcore.deep.inner",
        "cssegcore.deep.beside",
        "cssegcore.uncle",
    }


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("# why\nclass A:\n\n  def f(self, x = 1): return x  # so\n", True),
        (
            '"""Module."""\nclass A:\n    """Class."""\n    def f(self, x=1):\n        return x\n',
            True,
        ),
        ('class A:\n    def f(self, x=1):\n        """Function."""\n        return x\n', True),
        ("class A:\n    def f(self, x=2):\n        return x\n", False),
        ('class A:\n    def f(self, x=1):\n        return "x"\n', False),
    ],
    ids=["comment", "docstrings", "docstring", "constant", "text"],
)
def test_what_changes_a_digest(table, text, same):
    before = table()
    after = table(**{"cssegcore/uncle.py": text})
    assert changed(before, after) == (set() if same else {"cssegcore.uncle"})


def test_the_sentence_below_a_constant_is_no_program(table):
    first = table(**{"cssegcore/uncle.py": 'K = 1\n"""Of it."""\n'})
    assert table(**{"cssegcore/uncle.py": 'K = 1\n"""Of the thing."""\n'}) == first
    assert table(**{"cssegcore/uncle.py": 'K = 2\n"""Of it."""\n'}) != first


def test_a_data_file_counts_and_an_editor_s_does_not(table):
    before = table()
    assert changed(before, table(**{"cssegcore/deep/.sheet.css.swp": "x"})) == set()
    after = table(**{"cssegcore/deep/sheet.css": "p {a: b}\n"})
    assert changed(before, after) == {"cssegcore.deep/sheet.css"}


def test_tracking_is_left_out(table):
    before = table()
    after = table(
        **{"stages/common/reporting.py": "x = 1\n", "stages/tracking/__init__.py": "x = 1\n"}
    )
    assert changed(before, after) == set()


def recorded(folder, stage):
    """Returns the table that stands for a stage's code in dvc.yaml."""
    name, _, step = stage.partition("@")
    if name == "train":
        name = "method.base" if step == "step0" else "method"
    return set(json.loads((folder / "work" / "code" / f"{name}.json").read_text()))


def ours(modules):
    roots = tuple(f"{root}." for root in ("cssegcore", "stages"))
    return {m for m in modules if m.startswith(roots) and not m.startswith(UNHEARD)}


@pytest.mark.slow
@pytest.mark.parametrize("walk", ["walked", "walked_ssul_m", "walked_made"])
def test_every_stage_runs_only_code_that_its_table_names(request, walk):
    folder, imported = request.getfixturevalue(walk)
    unnamed = {
        stage: ours(modules) - recorded(folder, stage)
        for stage, modules in imported.items()
        if stage != "check"  # depends on the whole folders
    }
    assert not any(unnamed.values()), unnamed
    assert set(imported) == set(scenes.EVERY_STAGE)
    assert all(ours(modules) for modules in imported.values())


def test_stages_without_a_network_pay_for_no_torch(walked):
    _, imported = walked
    heavy = {"torch", "torchvision", "matplotlib", "mlflow", "hydra", "dvc"}
    assert {stage: heavy & imported[stage] for stage in scenes.WITHOUT_TORCH} == {
        stage: set() for stage in scenes.WITHOUT_TORCH
    }
    assert "torch" in imported["train@step0"]


def test_the_tables_leave_out_what_a_recipe_does_not_name(walked):
    folder, _ = walked
    base, method = recorded(folder, "train@step0"), recorded(folder, "train@step1")
    assert "cssegcore.method.classifier_init.none" in base - method
    assert "cssegcore.method.losses.unbiased_kd" in method - base
    assert "cssegcore.models.architectures.small" in base & method
    assert not any(m.startswith("cssegcore.models.architectures.deeplabv3") for m in base | method)
    light = set().union(*(recorded(folder, stage) for stage in scenes.WITHOUT_TORCH))
    assert "cssegcore.saliency.detector" not in light - recorded(folder, "saliency")
    assert not any(m.startswith("cssegcore.models.architectures.") for m in light)


def test_the_tables_name_the_parts_of_the_stages_before_a_training(walked_ssul_m):
    folder, _ = walked_ssul_m
    network = {
        "cssegcore.models.architectures.small",
        "cssegcore.models.heads.conv",
        "cssegcore.data.layouts.voc",
    }
    for stage, part in (
        ("pseudo_label@step1", "method.pseudo_labels.sigmoid"),
        ("memory@step1", "method.replay.exemplars"),
    ):
        assert network | {f"cssegcore.{part}"} <= recorded(folder, stage)
    assert "cssegcore.method.unknown_class.salient" in recorded(folder, "saliency")
    base, method = recorded(folder, "train@step0"), recorded(folder, "train@step1")
    assert "cssegcore.method.unknown_class.salient" in base & method
    assert "cssegcore.method.freeze.all_but_newest" in method - base
    assert "cssegcore.method.replay.exemplars" in method - base


def test_what_every_stage_of_a_method_with_everything_leaves(walked_ssul_m):
    folder, _ = walked_ssul_m
    work = folder / "work"

    def manifest(*path):
        return json.loads(work.joinpath(*path, "manifest.json").read_text())

    assert manifest("saliency")["images"] == [f"t{i}" for i in range(8)]
    for step in ("step1", "step2"):
        kept, labelled = manifest(step, "memory"), manifest(step, "pseudo_labels")
        assert len(kept["images"]) == 3
        train = json.loads((work / "split" / step / "train.json").read_text())
        assert labelled["images"] == {
            "train": [name for name, _ in train["images"]],
            "memory": kept["images"],
        }
        for kind, names in labelled["images"].items():
            files = {f.stem for f in (work / step / "pseudo_labels" / kind).iterdir()}
            assert files == set(names)
        # counts go with the results, up to the report
        told = json.loads((work / "step2" / "evaluation" / step / "pseudo_labels.json").read_text())
        assert told == {key: labelled[key] for key in ("background", "classes")}
    page = (work / "report" / "report.html").read_text()
    assert "<h2>Pseudo-labels</h2>" in page
    assert "<h2>sharp</h2>" in page
    last = json.loads((work / "step2" / "metrics.json").read_text())
    summary = json.loads((work / "report" / "summary.json").read_text())
    for name in ("miou", "sharp", "worst"):
        assert summary[name] == last[name], name
        assert last[name].keys() == last["miou"].keys()
    root = Path(yaml.safe_load((folder / "params.yaml").read_text())["dataset"]["root"])
    names = manifest("step2", "memory")["images"]
    photographs = sum(p.stat().st_size for n in names for p in root.glob(f"*/{n}.*"))
    assert last["kept_bytes"] == {"exemplars": photographs, "made_images": 0, "statistics": 0}
    assert last["worst"]["all"] <= last["miou"]["all"]
    seconds = json.loads((work / "step2" / "timing.json").read_text())["seconds"]
    assert 0 < seconds < 600
    assert "<h2>Costs</h2>" in page
    assert f"<td>{seconds:.1f}</td>" in page
    code = json.loads((work / "code" / "evaluate.json").read_text())
    assert "cssegcore.evaluation.metrics.boundary_iou" in code


@pytest.mark.slow
def test_the_library_needs_no_tool_of_the_pipeline():
    code = """
import pkgutil, sys
for tool in ("dvc", "mlflow", "hydra", "omegaconf", "typer", "yaml"):
    sys.modules[tool] = None
import cssegcore
names = [m.name for m in pkgutil.walk_packages(cssegcore.__path__, "cssegcore.")]
for name in names:
    __import__(name)
print(len(names))
"""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=scenes.HOME, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 40
