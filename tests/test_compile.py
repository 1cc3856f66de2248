"""`optimizer.compile`: the same training, and nothing compiled again in a later step."""

import json
import subprocess
import sys

import numpy as np
import pytest

from tests import scenes


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compiled")
    subprocess.run([sys.executable, "-m", "tests.compiled", folder], cwd=scenes.HOME, check=True)
    return json.loads((folder / "told.json").read_text())


@pytest.mark.parametrize(
    ("method", "graphs"),
    [
        ("ft", [1, 1, 1]),
        ("mib", [1, 2, 2]),  # one more for the old model, whose normalisations are folded
        ("ssul", [1, 2, 2]),  # a trunk that stands still is a folded one
    ],
)
def test_a_compiled_training_is_the_same(told, method, graphs):
    plain, compiled = told[method]["plain"], told[method]["compiled"]
    assert plain["graphs"] == [0, 0, 0]
    assert compiled["graphs"] == graphs
    assert compiled["breaks"] == 0
    assert compiled["rows"] == [pytest.approx(row, rel=1e-3) for row in plain["rows"]]
    assert compiled["weights"].keys() == plain["weights"].keys()
    for name, value in plain["weights"].items():
        assert np.allclose(compiled["weights"][name], value, rtol=1e-3, atol=1e-4), name
