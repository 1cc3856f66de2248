"""An entry of DVC's queue that fails: what is shown, where the reason is, how it runs again.

As docs/clusters.md tells it. `check` is the real one; the stages behind it are the lab's scripts.
"""

import re
from pathlib import Path

import pytest
import yaml

from tests.helpers.dvc_project import QUICK, REPOSITORY
from tests.helpers.slurm_lab import Lab

pytestmark = [pytest.mark.dvc, pytest.mark.long]

OVERRIDES = [word for override in QUICK for word in ("-S", override)]


@pytest.fixture
def lab(tmp_path: Path, commands: Path) -> Lab:
    lab = Lab(tmp_path, commands)
    real = yaml.safe_load((REPOSITORY / "dvc.yaml").read_text())["stages"]
    pipeline = yaml.safe_load((lab.root / "dvc.yaml").read_text())
    pipeline["stages"]["check"] = real["check"]
    pipeline["stages"]["base"]["deps"].append("work/none")
    (lab.root / "dvc.yaml").write_text(yaml.safe_dump(pipeline))
    lab.run("git", "commit", "-qam", "check goes first")
    return lab


def states(lab: Lab) -> dict[str, str]:
    """Returns the state of each entry by its name."""
    shown = lab.run("dvc", "queue", "status")
    return dict(
        re.findall(r"^\w{7}\s+([\w-]+)\s.*(Queued|Running|Success|Failed)\s*$", shown, re.M)
    )


def queue(lab: Lab, name: str, *overrides: str) -> None:
    changed = [word for override in overrides for word in ("-S", override)]
    lab.run("dvc", "exp", "run", "--queue", "-n", name, *OVERRIDES, *changed)


def test_what_fails_is_told_and_runs_again_and_the_others_are_kept(lab: Lab) -> None:
    queue(lab, "before", "seed=2")
    queue(lab, "wrong", "seed=3", "optimizer.batch_size=-4")
    queue(lab, "after", "seed=3")
    lab.run("dvc", "queue", "start")
    lab.wait_for_queue()
    assert states(lab) == {"before": "Success", "wrong": "Failed", "after": "Success"}
    log = lab.run("dvc", "queue", "logs", "wrong")
    (reason,) = re.findall(r"^error: .*$", log, re.M)
    assert "batch_size" in reason
    assert "-4" in reason
    assert lab.ran() == ["base", "increment"] * 2

    # mended, under the same name; what failed has trained nothing
    lab.run("dvc", "queue", "remove", "--failed")
    assert states(lab) == {"before": "Success", "after": "Success"}
    queue(lab, "wrong", "seed=3", "optimizer.batch_size=4")
    lab.run("dvc", "queue", "start")
    lab.wait_for_queue()
    assert states(lab) == {"before": "Success", "wrong": "Success", "after": "Success"}
    assert lab.ran() == [], "these stages read the seed alone: they come from the cache"
    refs = lab.run("git", "for-each-ref", "--format=%(refname:lstrip=-1)", "refs/exps")
    assert set(refs.split()) >= {"before", "wrong", "after"}
    lab.run("dvc", "exp", "apply", "wrong")
    made = yaml.safe_load((lab.root / "params.yaml").read_text())
    assert (made["seed"], made["optimizer"]["batch_size"]) == (3, 4)

    lab.run("dvc", "exp", "remove", "before")
    refs = lab.run("git", "for-each-ref", "--format=%(refname:lstrip=-1)", "refs/exps")
    assert "before" not in refs.split()
