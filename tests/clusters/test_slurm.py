"""The script of a SLURM array, by a stand-in that signals it as SLURM does."""

import signal
from pathlib import Path

import pytest
import yaml

from tests.helpers.slurm_lab import Lab, Slurm

pytestmark = pytest.mark.dvc


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory, commands: Path) -> Slurm:
    lab = Lab(tmp_path_factory.mktemp("lab"), commands)
    return Slurm(tmp_path_factory.mktemp("slurm"), lab)


def experiments(lab: Lab) -> set[str]:
    listed = lab.run("git", "for-each-ref", "--format=%(refname:lstrip=-1)", "refs/exps")
    return set(listed.split())


@pytest.mark.long
def test_an_array_with_requeue(slurm: Slurm) -> None:
    """One story: the time is up, the task goes on, another line shares what was done."""
    lab = slurm.lab
    status, log = slurm.interrupt(1, signal.SIGUSR1)
    assert status != 0
    assert "requeued, to go on from the last finished epoch" in log
    assert slurm.requeued() == "requeue 101\n"
    assert lab.ran() == ["base"]
    assert experiments(lab) == set()
    assert list(slurm.temporary.iterdir()) == [], "the clone is gone"

    log = slurm.finish(1, restarts=1)
    assert "method-ft-seed-3-100: attempt 2 on " in log
    assert lab.ran() == ["base", "increment"]

    slurm.finish(2)
    assert lab.ran() == ["increment"], "the base step comes from the cache"
    assert experiments(lab) == {"method-ft-seed-3-100", "method-mib-seed-3-100"}
    assert list(slurm.temporary.iterdir()) == []

    assert lab.run("git", "status", "--porcelain") == ""
    lab.run("dvc", "exp", "apply", "method-mib-seed-3-100")
    made = yaml.safe_load((lab.root / "work" / "increment").read_text())
    assert (made["method"]["name"], made["seed"]) == ("mib", 3)
    lab.run("git", "checkout", "-q", ".")

    slurm.finish(2, restarts=1)  # requeued although it was done: nothing is lost
    assert lab.ran() == []


def test_who_is_preempted_leaves_the_requeue_to_slurm(slurm: Slurm) -> None:
    before = slurm.requeued()
    (slurm.lab.root / "grids" / "two.txt").write_text("method=ft seed=4\n")
    slurm.lab.run("git", "commit", "-qam", "another grid")
    slurm.commit = slurm.lab.run("git", "rev-parse", "HEAD").strip()
    status, log = slurm.interrupt(1, signal.SIGTERM)
    assert status != 0
    assert "interrupted; the same line again goes on" in log
    assert slurm.requeued() == before
    assert list(slurm.temporary.iterdir()) == []


def test_a_line_that_is_not_there(slurm: Slurm) -> None:
    process = slurm.start(7)
    log, _ = process.communicate()
    assert process.returncode == 2
    assert log == "error: line 7 of grids/two.txt is empty, or there is none: see --array.\n"
