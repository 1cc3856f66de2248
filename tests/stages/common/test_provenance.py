"""What a page tells of date, commit, experiment and trainings."""

import json
import re
import subprocess

import pytest

from stages.common.provenance import read_provenance


def write_timing(folder, step, **told):
    (folder / step).mkdir(parents=True)
    (folder / step / "timing.json").write_text(json.dumps(told))


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """An empty folder that no repository holds, and that is the current one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.delenv("DVC_EXP_NAME", raising=False)
    return tmp_path


def git(*arguments):
    identity = ("-c", "user.name=x", "-c", "user.email=x@example.com")
    done = subprocess.run(["git", *identity, *arguments], check=True, capture_output=True)
    return done.stdout.decode().strip()


def test_outside_of_a_repository_the_date_is_all_that_is_known(place):
    found = read_provenance(place / "work", ["step0"])
    assert list(found) == ["made"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", found["made"])


def test_the_commit_says_whether_the_folder_differs_from_it(place, monkeypatch):
    git("init", "-q")
    for name in ("code.py", "params.yaml"):
        (place / name).write_text("1\n")
    git("add", ".")
    git("commit", "-qm", "one")
    commit = git("rev-parse", "HEAD")[:12]
    (place / "params.yaml").write_text("2\n")  # as an experiment does
    (place / "notes.txt").write_text("untracked\n")
    monkeypatch.setenv("DVC_EXP_NAME", "leafy-otter")
    found = read_provenance(place / "work", [])
    assert (found["commit"], found["experiment"]) == (commit, "leafy-otter")
    (place / "code.py").write_text("2\n")
    assert read_provenance(place, [])["commit"] == f"{commit}, with uncommitted changes"


def test_trainings_tell_their_time_memory_and_devices(place):
    one = {"processes": 1, "device": "CPU (x86_64), 2 threads"}
    write_timing(place, "step0", seconds=7000.0, peak_memory_mib=900.4, **one)
    write_timing(place, "step1", seconds=200.0, peak_memory_mib=12345.6, processes=4, device="H200")
    write_timing(place, "step2", seconds=20.0, peak_memory_mib=12000, processes=4, device="H200")
    found = read_provenance(place, ["step0", "step1", "step2"])
    assert found["training"] == "2.0 hours"
    assert found["peak memory"] == "12,346 MiB"
    assert found["device"] == "CPU (x86_64), 2 threads; 4 × H200"


def test_a_time_that_is_not_whole_is_not_told(place):
    write_timing(place, "step0", seconds=75.0)
    assert read_provenance(place, ["step0"])["training"] == "1.2 minutes"
    found = read_provenance(place, ["step0", "step1"])
    assert {"training", "peak memory", "device"}.isdisjoint(found)
