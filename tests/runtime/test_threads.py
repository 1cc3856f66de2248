import os
import subprocess
import sys

import pytest

from cssegcore.runtime.threads import SPIN_COUNT, limit_spinning
from tests.helpers.tiny_dataset import HOME

STAGE = """
import os
import sys

from stages.common.cli import run


def main() -> None:
    print(os.environ.get("GOMP_SPINCOUNT"), "torch" in sys.modules)


run(main)
"""


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, SPIN_COUNT),
        ({"GOMP_SPINCOUNT": "5"}, "5"),
        ({"OMP_WAIT_POLICY": "active"}, None),
    ],
    ids=["nothing set", "a count", "a policy"],
)
def test_threads_sleep_soon_unless_the_user_says_otherwise(given, expected, monkeypatch):
    for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    limit_spinning()
    assert os.environ.get("GOMP_SPINCOUNT") == expected


def test_a_stage_sets_it_before_torch_is_loaded(tmp_path):
    (tmp_path / "stage.py").write_text(STAGE)
    environment = {k: v for k, v in os.environ.items() if k != "GOMP_SPINCOUNT"}
    told = subprocess.run(
        [sys.executable, "-m", "stage"],
        cwd=tmp_path,
        env={**environment, "PYTHONPATH": str(HOME)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout.split() == [SPIN_COUNT, "False"]
