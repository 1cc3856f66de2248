"""The example of docs/library.md, run where none of the pipeline's tools can be imported."""

import json
import re
import subprocess
import sys

import pytest

from tests.helpers.tiny_dataset import HOME

BLOCKED = ("dvc", "mlflow", "hydra", "omegaconf", "typer", "yaml", "stages")
CHECK = """
import sys
sys.modules.update(dict.fromkeys(sys.argv[2:]))
exec(compile(open(sys.argv[1]).read(), "docs/library.md", "exec"))
assert trained.classes == ("background", "square", "disc"), trained.classes
assert curve[-1]["loss"] < curve[0]["loss"], curve
miou = metrics["miou"]
assert miou["base"] > 60 and miou["added"] > 30, miou
assert agreed.size is None and agreed.ties < 10, agreed
"""


def example():
    (code,) = re.findall(r"```python\n(.*?)```", (HOME / "docs/library.md").read_text(), re.S)
    return code


@pytest.mark.slow
def test_the_example_learns_without_the_tools_of_the_pipeline(tmp_path):
    (tmp_path / "example.py").write_text(example())
    done = subprocess.run(
        [sys.executable, "-c", CHECK, str(tmp_path / "example.py"), *BLOCKED],
        cwd=HOME,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_the_notebook_is_the_example():
    notebook = json.loads((HOME / "docs/library.ipynb").read_text())
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    code = "\n".join("".join(cell["source"]) for cell in cells)
    assert code.split() == example().split()
    assert not any(cell["outputs"] for cell in cells)
