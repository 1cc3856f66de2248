"""Every command that a text shows is one that there is, with options that it has.

They are parsed by what parses them when they are run: typer's commands, Hydra, DVC, argparse, make.
That tests run them, too, is looked for in `test_tried.py`.
"""

import argparse
import importlib
import itertools
import re
from unittest import mock

import click
import pytest
import typer
from dvc.cli import parse_args
from dvc.cli.parser import DvcParserError

from stages.__main__ import COMMANDS
from stages.common.cli import one_command
from tests.helpers.shown_commands import COMMANDS_SHOWN, of, shown
from tests.helpers.tiny_dataset import HOME, composed, run_module

pytestmark = pytest.mark.slow

BLANKS = {"NAME", "mine", "x", "X"}
"""That a reader fills in; so is everything with an ellipsis."""
ELSEWHERE = {"cd", "chgrp", "chmod", "curl", "export", "find", "git"} | {
    *("mkdir", "open", "pip", "pre-commit", "sbatch", "source")
}
"""Programs that are neither ours nor DVC's."""
MODULES = {name: module for module, name in COMMANDS.items()}


def stages_shown():
    """Returns a module of `stages` and its words for every command that runs one."""
    found = [(MODULES.get(c[0], c[0]), *c[1:]) for c in of("cssegcore") if not c[0].startswith("-")]
    found += [
        (c[0].removeprefix("stages."), *c[1:]) for c in of("python", "-m") if "stages." in c[0]
    ]
    return sorted({c for c in found if c[0] not in BLANKS})


TEXT = """
Inline `make ui`, `NAME`, and `find . \\| python -m stages.predict MODEL -`:

    dvc exp run -S a=b
    an indented sentence

```console
$ MORE="-S a=1 -S b=2"
$ DVC_ROOT=/lab python -m bench.x \\
    --many $MORE && dvc repro  # a remark
dvc repro is what it prints
```

```
make demo
train.txt  a NAME a line
```

```python
make = "no command"
```
"""


def test_commands_are_read_out_of_every_form():
    assert list(map(" ".join, shown(TEXT))) == [
        "python -m bench.x --many -S a=1 -S b=2",
        "dvc repro",
        "make demo",
        "dvc exp run -S a=b",
        "make ui",
        "find .",
        "python -m stages.predict MODEL -",
    ]


def test_texts_show_some_of_every_kind():
    programs = {c[0] for c in COMMANDS_SHOWN}
    assert {"dvc", "make", "python", "cssegcore", "mlflow"} <= programs
    assert programs - {"dvc", "make", "python", "cssegcore", "mlflow"} <= ELSEWHERE


@pytest.mark.parametrize("words", stages_shown(), ids=" ".join)
def test_stages_take_what_is_shown(words):
    name, *given = words
    module = importlib.import_module(f"stages.{name}")
    if not given or "…" in given or "..." in given:
        return  # spoken of, not shown
    command = typer.main.get_command(one_command(module.main, name, None))
    try:
        command.make_context(name, given)
    except click.exceptions.UsageError as error:
        pytest.fail(f"{' '.join(words)}: {error.format_message()}")


def choices(value):
    """Returns the values of a sweep; a list is one."""
    return [value] if value.startswith("[") else value.split(",")


def overrides_shown():
    """Returns the parameters of every experiment, a method at a time."""
    found = set()
    for words in of("dvc", "exp", "run"):
        given = [b for a, b in itertools.pairwise(words) if a == "-S"]
        if "…" in "".join(given) or BLANKS & {o.partition("=")[2] for o in given}:
            continue
        names = [o.partition("=")[0] for o in given]
        values = (choices(o.partition("=")[2]) for o in given)
        found |= {
            tuple(map("=".join, zip(names, one, strict=True))) for one in itertools.product(*values)
        }
    return sorted(found)


@pytest.mark.parametrize("overrides", overrides_shown(), ids=" ".join)
def test_experiments_can_be_composed(overrides):
    assert composed(*overrides)["method"]["name"]


@pytest.mark.parametrize("words", of("dvc"), ids=" ".join)
def test_dvc_takes_what_is_shown(words):
    try:
        parse_args(list(words))
    except DvcParserError as error:
        pytest.fail(f"dvc {' '.join(words)}: {error}")


@pytest.mark.parametrize(
    "words", [c for c in of("python", "-m") if "bench" in c[0] and c[1:]], ids=" ".join
)
def test_benches_take_what_is_shown(words):
    parse = argparse.ArgumentParser.parse_args

    def parse_only(self, *arguments):
        raise SystemExit(parse(self, *arguments) is None)

    with mock.patch.object(argparse.ArgumentParser, "parse_args", parse_only):
        outcome = run_module(*words)
    assert (outcome.status, outcome.err) == (0, "")


@pytest.mark.parametrize("words", of("make"), ids=" ".join)
def test_make_has_its_target(words):
    target, *settings = words
    text = (HOME / "Makefile").read_text()
    assert re.search(rf"^{target}:", text, re.M)
    assert all(f"$({name})" in text for name in (one.partition("=")[0] for one in settings))
