"""DVC's queue with a GPU for each worker, by the commands that docs/clusters.md shows."""

import re
import sys
from pathlib import Path

import pytest

from tests.helpers.dvc_project import REPOSITORY
from tests.helpers.slurm_lab import Lab, wait_for

pytestmark = [pytest.mark.dvc, pytest.mark.long]

STAGE = """\
set -e
mkdir -p work
cat params.yaml > "work/$1"
test "$1" = base || exit 0
echo "$CUDA_VISIBLE_DEVICES" >> "$DVC_ROOT/ran"
for second in $(seq 120); do  # so that one worker cannot take both entries
  test "$(wc -l < "$DVC_ROOT/ran")" -lt 2 || exit 0
  sleep 1
done
exit 1
"""


def documented() -> list[str]:
    """Returns the lines of the section that start workers."""
    text = (REPOSITORY / "docs" / "clusters.md").read_text()
    _, section = text.split("## One GPU a worker")
    return re.findall(r"^\$ (CUDA_VISIBLE_DEVICES=.*)$", section.split("```")[1], re.M)


def test_each_worker_has_the_gpu_that_was_visible_when_it_was_started(
    tmp_path: Path, commands: Path
) -> None:
    lab = Lab(tmp_path, commands)
    (lab.root / "stage.sh").write_text(STAGE)
    lab.run("git", "commit", "-qam", "stages that meet")

    def start(line: str) -> None:
        """By the real `dvc`; the worker keeps its streams, so a pipe would stay open."""
        path = f"PATH={Path(sys.executable).parent}:$PATH"
        lab.run("sh", "-c", f"export {path}; {line} > {tmp_path}.log 2>&1")

    lab.run("dvc", "exp", "run", "--queue", "-S", "seed=1,2")
    first, second = documented()
    start(first)
    wait_for(lambda: "1 active" in lab.run("dvc", "queue", "status"))
    start(second)
    lab.wait_for_queue()
    assert lab.run("dvc", "queue", "status").count("Success") == 2
    assert sorted(lab.ran()) == ["0", "1"]
