"""`optimizer.compile`: the same training, and nothing compiled again without need."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from cssegcore.core.errors import InputError
from cssegcore.training.compile import check_compiler, lacks
from tests.helpers import tiny_dataset as scenes
from tests.helpers.tiny_training import CPU, Lists, plan

KINDS = ["plain", "gpu"]
if lacks() is None:
    KINDS.append("cpu")


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compiled")
    # a cache of its own, so that everything is compiled here
    environment = os.environ | {"TORCHINDUCTOR_CACHE_DIR": str(folder / "cache")}
    command = [sys.executable, "-m", "tests.helpers.compiled_training", folder, *KINDS]
    subprocess.run(command, cwd=scenes.HOME, env=environment, check=True)
    return json.loads((folder / "told.json").read_text())


def equal(told, method, kind):
    plain, compiled = told[method]["plain"], told[method][kind]
    assert plain["graphs"] == [0, 0, 0]
    assert compiled["breaks"] == 0
    assert compiled["rows"] == [pytest.approx(row, rel=1e-3) for row in plain["rows"]]
    assert compiled["weights"].keys() == plain["weights"].keys()
    for name, value in plain["weights"].items():
        assert np.allclose(compiled["weights"][name], value, rtol=1e-3, atol=1e-4), name
    return compiled["graphs"]


@pytest.mark.parametrize(
    ("method", "graphs"),
    [
        ("ft", [1, 1, 1]),
        ("mib", [1, 2, 2]),  # one more for the old model, whose normalisations are folded
        ("ssul", [1, 2, 2]),  # an extractor that stands still is a folded one
    ],
)
@pytest.mark.long
def test_with_all_trunks_compiled_as_on_a_gpu_a_training_is_the_same(told, method, graphs):
    assert equal(told, method, "gpu") == graphs


@pytest.mark.skipif("cpu" not in KINDS, reason="there is no compiler")
@pytest.mark.parametrize(
    ("method", "graphs"),
    [
        ("ft", [0, 0, 0]),  # all of it learns
        ("mib", [0, 1, 2]),  # the old model's weights are constants, and others in every step
        ("ssul", [0, 1, 2]),
    ],
)
@pytest.mark.long
def test_with_trunks_compiled_that_stand_still_a_training_is_the_same(told, method, graphs):
    assert equal(told, method, "cpu") == graphs


def test_without_a_compiler_nothing_starts(tmp_path, monkeypatch):
    lists = Lists.write(tmp_path)
    monkeypatch.setenv("CXX", "no-such-compiler -O2")
    with pytest.raises(InputError, match=r"no-such-compiler.*optimizer\.compile: false"):
        lists.prepare(plan("ft", optimizer={"compile": True}), "step0")


def test_a_compiler_may_have_arguments(monkeypatch):
    monkeypatch.setenv("CXX", f"{sys.executable} -O2")
    assert "compiler" not in (lacks() or "")


def test_headers_of_python_are_missed(monkeypatch, tmp_path):
    monkeypatch.setenv("CXX", sys.executable)
    monkeypatch.setattr("sysconfig.get_path", lambda _: str(tmp_path))
    with pytest.raises(InputError, match=r"header files.*Python\.h"):
        check_compiler(CPU)


def test_a_gpu_is_not_asked_for_a_compiler(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    check_compiler(torch.device("cuda"))
