"""The command `cssegcore`: every stage is a sub-command, and asking for help costs little."""

import importlib
import json
import pkgutil
import subprocess
import sys
import tomllib

import pytest

import stages
from stages.__main__ import COMMANDS
from tests.helpers.tiny_dataset import HOME, run_module

MODULES = sorted(m.name for m in pkgutil.iter_modules(stages.__path__) if not m.ispkg)
STAGES = [name for name in MODULES if not name.startswith("_")]
HELP = """
import json, sys
sys.argv = ["cssegcore", "--help"]
from stages.__main__ import main
try:
    main()
except SystemExit:
    heavy = {"torch", "torchvision", "mlflow", "hydra", "dvc", "matplotlib"}
    print(json.dumps(sorted(heavy & set(sys.modules))))
"""


@pytest.fixture(scope="module")
def usage():
    done = subprocess.run(
        [sys.executable, "-c", HELP], cwd=HOME, capture_output=True, text=True, check=True
    )
    return done.stdout


def test_help_names_every_stage_and_imports_nothing_slow(usage):
    assert json.loads(usage.splitlines()[-1]) == []
    assert len(STAGES) > 15
    for name in STAGES:
        assert f" {COMMANDS.get(name, name)} " in usage
    assert "--install-completion" in usage
    assert "CSSEGCORE_DEVICE" in usage


def test_a_shell_completes_a_command(monkeypatch):
    monkeypatch.setenv("_CSSEGCORE_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "cssegcore pre")
    monkeypatch.setenv("COMP_CWORD", "1")
    assert cssegcore().out.split() == ["predict"]


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_has_a_main_that_is_its_command(name):
    assert importlib.import_module(f"stages.{name}").main.__doc__


def test_a_stage_is_run_with_its_own_arguments(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "no photograph or folder nix" in cssegcore("predict", "model", "nix").refusal()
    assert cssegcore("index", "--help").out.lstrip().startswith("Usage: cssegcore index")


def test_what_is_misspelt_is_guessed():
    outcome = cssegcore("trian")
    assert outcome.status == 2
    assert "Did you mean 'train'" in outcome.err


def test_the_version_is_told():
    project = tomllib.loads((HOME / "pyproject.toml").read_text())["project"]
    assert cssegcore("--version").out == f"cssegcore {project['version']}\n"


def test_a_traceback_is_shown_on_wish(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CSSEGCORE_DEBUG", "")
    outcome = cssegcore("--debug", "predict", "model", "nix")
    first, *_, last = outcome.err.splitlines()
    assert first == "Traceback (most recent call last):"
    assert last == "error: there is no photograph or folder nix: check the path."
    assert outcome.status == 2


@pytest.mark.parametrize("tool", ["hydra", "omegaconf"])
def test_a_tool_that_is_not_installed_is_named(tool, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, tool, None)
    monkeypatch.chdir(tmp_path)
    said = cssegcore("compose", "params.yaml").refusal()
    assert "is not installed: run `pip install 'cssegcore[pipeline]'`" in said


def cssegcore(*arguments):
    return run_module("stages", *arguments)
