"""Two clones: one cache, one remote, `dvc.lock` in git, and `dvc gc` that spares others.

One story in order.
"""

import stat
from pathlib import Path

import pytest

from tests.helpers.slurm_lab import Clone, Lab, objects

pytestmark = pytest.mark.dvc


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, commands: Path) -> Lab:
    lab = Lab(tmp_path_factory.mktemp("lab"), commands)
    lab.run("dvc", "config", "cache.shared", "group")
    lab.run("dvc", "remote", "add", "-d", "store", str(tmp_path_factory.mktemp("store")))
    lab.run("git", "commit", "-qam", "shared")
    return lab


@pytest.fixture(scope="module")
def cache(lab: Lab) -> Path:
    return lab.root / ".dvc" / "cache"


@pytest.fixture(scope="module")
def anna(lab: Lab, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A clone that uses the same cache."""
    return lab.clone(tmp_path_factory.mktemp("people") / "anna", cache)


def folders(cache: Path) -> set[Path]:
    return {path for path in (cache / "files").rglob("*") if path.is_dir()}


def gc(clone: Lab, *scopes: str) -> int:
    """Returns how many files `dvc gc` would remove."""
    said = clone.run("dvc", "gc", "--force", "--dry", *scopes)
    return sum(int(line.split()[1]) for line in said.splitlines() if line.startswith("Removed "))


def test_one_cache(lab: Lab, anna: Clone, cache: Path) -> None:
    there = folders(cache)
    lab.run("dvc", "repro", "-q")
    assert lab.ran() == ["base", "increment"]
    made = folders(cache) - there
    assert made, "a run writes to the cache"
    assert all(path.stat().st_mode & stat.S_IWGRP for path in made)
    anna.run("dvc", "checkout", "-q", "data.dvc")
    anna.run("dvc", "repro", "-q")
    assert lab.ran() == [], "what one ran, the other takes"


def test_one_remote(lab: Lab, tmp_path: Path) -> None:
    """By the run cache, without a `dvc.lock`."""
    lab.run("dvc", "push", "-q", "--run-cache")
    ben = lab.clone(tmp_path / "ben")
    ben.run("dvc", "pull", "-q", "data.dvc")
    ben.run("dvc", "repro", "-q", "--pull")
    assert lab.ran() == []
    assert (ben.root / "work" / "increment").read_bytes() == (
        lab.root / "work" / "increment"
    ).read_bytes()


def test_the_run_cache_alone_is_not_enough(lab: Lab, tmp_path: Path) -> None:
    """Its notes come without the files that they name: hence `--pull`, as README says."""
    ben = lab.clone(tmp_path / "ben")
    ben.run("dvc", "pull", "-q", "--run-cache", "data.dvc")
    ben.run("dvc", "repro", "-q")
    assert lab.ran() == ["base", "increment"]


def test_a_committed_lock_names_its_files(lab: Lab, tmp_path: Path) -> None:
    lab.run("git", "add", "dvc.lock")
    lab.run("git", "commit", "-qm", "The run of the paper")
    ben = lab.clone(tmp_path / "ben")
    ben.run("dvc", "pull", "-q")
    assert (ben.root / "work" / "increment").exists()
    ben.run("dvc", "repro", "-q")
    assert lab.ran() == []


@pytest.mark.long
def test_gc(lab: Lab, anna: Clone, cache: Path) -> None:
    """One story: a saved run, one that nobody saved, and what another clone has."""
    anna.compose("seed=5")
    anna.run("dvc", "repro", "-q")
    lab.compose("seed=6")
    lab.run("dvc", "repro", "-q")
    lab.run("dvc", "exp", "save", "-q", "--name", "six")
    lab.compose("seed=7")
    lab.run("dvc", "repro", "-q")  # neither committed nor saved
    lab.run("git", "checkout", "-q", ".")
    assert lab.ran() == ["base", "increment"] * 3

    kept = ("--all-commits", "--all-experiments", "--projects", str(anna.root))
    assert gc(lab, "--workspace") == 6
    assert gc(lab, "--all-commits", "--all-experiments") == 4, "another's files would go"
    assert gc(lab, *kept) == 2, "those of the run that is named by nothing"
    before = objects(cache)
    lab.run("dvc", "gc", "-q", "--force", *kept)
    assert len(before - objects(cache)) == 2

    for clone, seed, runs in ((anna, 5, []), (lab, 6, []), (lab, 7, ["base", "increment"])):
        (clone.root / "dvc.lock").unlink()
        clone.compose(f"seed={seed}")
        clone.run("dvc", "repro", "-q")
        assert lab.ran() == runs, seed


@pytest.mark.long
def test_not_in_remote_deletes_more(lab: Lab) -> None:
    """It keeps what is named and not in the remote; not what is merely not in the remote."""
    lab.run("dvc", "exp", "save", "-q", "--name", "seven")
    scopes = ("--all-commits", "--all-experiments")
    assert gc(lab, *scopes, "--not-in-remote") > gc(lab, *scopes)
