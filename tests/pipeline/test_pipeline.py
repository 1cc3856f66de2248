"""Real DVC on a copy of the project: which stages run.

One story in one copy, told in order, because what is cached is the point. The test prints the table
(`pytest -s`).
"""

import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.helpers.dvc_project import Project
from tests.helpers.tiny_dataset import BEFORE_STEP, BEFORE_TRAINING

pytestmark = pytest.mark.dvc


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, commands: Path) -> Project:
    return Project(tmp_path_factory.mktemp("project"), commands)


def increments(*steps: int) -> set[str]:
    """Names the stages that a change of the method runs again at the given steps."""
    return {f"{stage}@step{i}" for i in steps for stage in ("train", "evaluate")}


BASE = {"train@step0", "evaluate@step0"}
EMPTY = {f"{stage}@step{i}" for i in (1, 2) for stage in BEFORE_STEP}
"""With nothing to do in most methods."""


def test_which_stages_run(project: Project) -> None:
    table = {}

    def step(change: str, *overrides: str, targets: Sequence[str] = ()) -> set[str]:
        table[change] = project.repro(*overrides, targets=targets)
        return table[change]

    everything = {*BEFORE_TRAINING, "report"} | BASE | EMPTY | increments(1, 2)
    assert step("first run (mib)", "method=mib") == everything
    mib = project.metrics()
    assert step("nothing", "method=mib") == set()

    # a model not seen before makes `memory` and its like look again, at the price of a process
    swapped = {"check", "report"} | increments(1, 2)
    assert step("method: ft after mib", "method=ft") - EMPTY == swapped, "step 0 is shared"
    ft = project.metrics()
    assert ft != mib

    assert step("back to mib", "method=mib") == set()
    assert project.metrics() == mib

    again = step("step 2's learning rate", "method=mib", "steps.step2.lr=0.011")
    assert again == {"check", "report"} | increments(2)

    base = step("method: ssul, its base step", "method=ssul", targets=["train@step0"])
    assert base == {"check", "saliency", "split", "train@step0"}, "an unknown class, by saliency"

    memory = ("method=ssul_m", "method.replay.size=4")
    kept = step("method: ssul_m after ssul, step 1", *memory, targets=["train@step1"])
    assert kept - EMPTY == {"check", "train@step1"}, "base and saliency are shared"

    other = ("method=mib", "scenario=shapes/4-1")
    longer = step("scenario: 4-1 after 4-2, step 1", *other, targets=["train@step1"])
    assert longer - EMPTY == {"check", "split", "train@step1"}, "step 0 and the index are the same"

    seeded = step("seed, steps 0 and 1", "method=mib", "seed=2", targets=["train@step1"])
    assert seeded - EMPTY == {"check", "train@step0", "train@step1"}

    shutil.rmtree(project.root / "work")
    assert step("work/ deleted", "method=mib") == set()
    assert project.metrics() == mib

    width = max(map(len, table))
    for change, stages in table.items():
        print(f"{change:{width}}  {', '.join(sorted(stages)) or '-'}")  # noqa: T201
