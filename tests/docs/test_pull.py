"""`dvc pull` as the texts name it: in a fresh clone, without a `dvc.lock`, that of all fails."""

import re
import subprocess
from pathlib import Path

import pytest

from tests.helpers.dvc_project import Project
from tests.helpers.tiny_dataset import HOME

COMMAND = re.compile(r"\bdvc (?:pull|fetch)\b((?: +[\w.@/-]+)*)")
PATTERNS = ("*.md", "*.yaml", "*.py", "Makefile", "*.sbatch", "*.j2")
TARGETS = {"data", "data.dvc", "report"}
"""What is named: the dataset of every clone, and the report of one in which a `dvc.lock` is."""


def pulls():
    """Yields each paragraph of the texts that names the command, and what is given to it."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", *PATTERNS],
        cwd=HOME,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in listed.stdout.split():
        if name.startswith("tests/"):
            continue
        for paragraph in re.split(r"\n\s*\n", (HOME / name).read_text()):
            for line in paragraph.splitlines():
                for given in COMMAND.findall(line):
                    yield name, paragraph, given.split()


def test_a_pull_names_its_target_or_the_lock():
    found = list(pulls())
    assert len(found) > 6
    for name, paragraph, given in found:
        words = [word for word in given if not word.startswith("-")]
        assert "dvc.lock" in paragraph or TARGETS & set(words), f"{name}: dvc pull {given}"


@pytest.mark.dvc
def test_the_dataset_is_pulled_in_a_fresh_clone(tmp_path: Path, commands: Path) -> None:
    clone = Project.cloned(HOME, tmp_path / "clone", commands)
    clone.run("dvc", "pull", "-q", "data")
    assert (clone.root / "data" / "ImageSets").is_dir()
