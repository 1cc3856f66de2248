"""Ctrl-C while a command starts, which takes most of its time importing, and while it runs."""

import os
import subprocess
import sys

import pytest

from stages import INTERRUPTED
from tests.helpers import tiny_dataset as scenes

STOPS = "import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(20)\n"


@pytest.mark.parametrize("imported", ["typer", "yaml", "torch", "PIL"])
def test_it_ends_in_one_line_wherever_it_is(project, tmp_path, imported):
    """A module that presses Ctrl-C takes the place of one that is imported early, or late."""
    (tmp_path / "first").mkdir()
    (tmp_path / "first" / f"{imported}.py").write_text(STOPS)
    path = os.pathsep.join([str(tmp_path / "first"), str(scenes.HOME)])
    done = subprocess.run(
        [sys.executable, "-m", *project.commands["evaluate@step0"]],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", INTERRUPTED)


def test_who_ignores_interrupts_goes_on(project, tmp_path):
    (tmp_path / "first").mkdir()
    quick = STOPS.replace("20", "0") + "import sys; sys.exit('went on')"
    (tmp_path / "first" / "typer.py").write_text(quick)
    done = subprocess.run(
        ["sh", "-c", f"trap '' INT; exec {sys.executable} -m stages.index x"],
        env=os.environ | {"PYTHONPATH": f"{tmp_path / 'first'}{os.pathsep}{scenes.HOME}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == "went on\n"


def test_importing_a_stage_leaves_the_keyboard_to_the_program_that_does():
    code = (
        "import signal, stages.common.cli\n"
        "assert signal.getsignal(signal.SIGINT) is signal.default_int_handler"
    )
    subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": str(scenes.HOME)}, check=True
    )
