"""The example of docs/library.md, run where none of the pipeline's tools can be imported."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.tiny_dataset import HOME, composed

BETWEEN = "\n# next cell\n"
BLOCKED = ("dvc", "mlflow", "hydra", "omegaconf", "typer", "yaml", "stages")
CHECK = """
import sys
sys.modules.update(dict.fromkeys(sys.argv[3:]))
text = open(sys.argv[1]).read()
for number, code in enumerate(text.split(sys.argv[2])):
    exec(compile(code, f"cell {number}", "exec"))
assert trained.classes == ("background", "square", "disc"), trained.classes
assert curve[-1]["loss"] < curve[0]["loss"], curve
miou = metrics["miou"]
assert miou["base"] > 60 and miou["added"] > 30, miou
assert agreed.size is None and agreed.ties < 10, agreed
"""


def example():
    (code,) = re.findall(r"```python\n(.*?)```", (HOME / "docs/library.md").read_text(), re.S)
    return code


def notebook():
    """Returns the cells of the notebook that hold code."""
    cells = json.loads((HOME / "docs/library.ipynb").read_text())["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


@pytest.mark.slow
def test_the_notebook_learns_without_the_tools_of_the_pipeline(tmp_path):
    """Its cells are run one after the other; the example's words are theirs."""
    path = tmp_path / "cells.py"
    path.write_text(BETWEEN.join("".join(cell["source"]) for cell in notebook()))
    done = subprocess.run(
        [sys.executable, "-c", CHECK, str(path), BETWEEN, *BLOCKED],
        cwd=HOME,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_the_notebook_is_the_example():
    code = "\n".join("".join(cell["source"]) for cell in notebook())
    # line by line: an indentation that differs is another program
    assert lines(code) == lines(example())
    assert not any(cell["outputs"] for cell in notebook())


def lines(code):
    return [line for line in code.splitlines() if line.strip()]


def test_the_recipe_of_the_text_is_read_as_it_shows(monkeypatch):
    """The lines after `>>>`, whose names the example has imported."""
    monkeypatch.chdir(HOME)
    shown = re.findall(r"^>>> (.*)$", (HOME / "docs/library.md").read_text(), re.M)
    names = {"Path": Path}
    exec("\n".join(shown), names)
    assert set(names["recipe"]["losses"]) == set(composed("method=plop")["method"]["losses"])
