"""Every variable of the environment that the code reads stands in the user's table."""

import re
from pathlib import Path

import pytest

from stages.__main__ import _SETTINGS

HOME = Path(__file__).resolve().parents[2]
FOLDERS = ("cssegcore", "stages")
READ = sorted(
    {
        name
        for folder in FOLDERS
        for path in (HOME / folder).rglob("*.py")
        for name in re.findall(r"\"(CSSEGCORE_\w+)\"", path.read_text())
    }
)


@pytest.mark.parametrize("name", READ)
def test_it_is_documented(name):
    table = (HOME / "docs/own_data.md").read_text()
    assert f"| `{name}` |" in table
    assert name in _SETTINGS or name == "CSSEGCORE_DEBUG", "the help of `cssegcore`"


def test_there_are_some():
    assert len(READ) >= 8
