"""Every command that a text shows is one that there is, with options that it has; and tests run it.

A text's commands are the lines of its consoles, and code in a sentence that begins with a program
of ours. They are parsed by what parses them when they are run: typer's commands, Hydra, DVC,
argparse, make.
"""

import argparse
import importlib
import itertools
import re
import shlex
from unittest import mock

import click
import pytest
import typer
from dvc.cli import parse_args
from dvc.cli.parser import DvcParserError

from stages.__main__ import COMMANDS
from stages.common.cli import one_command
from tests.helpers.tiny_dataset import HOME, composed, run_module

pytestmark = pytest.mark.slow

TEXTS = [
    path
    for path in sorted([*HOME.glob("*.md"), *HOME.glob("docs/*.md")])
    if path.name not in ("CHANGELOG.md", "papers.md")
]
"""The changelog tells of earlier commands; `tests/bench/test_papers.py` composes the papers'."""
CONSOLE = re.compile(r"^ *```console\n(.*?)^ *```", re.S | re.M)
FENCED = re.compile(r"^ *```.*?^ *```", re.S | re.M)
OURS = re.compile(r"(?:[A-Z_0-9]+=\S+ )*(?:dvc|python -m|make|cssegcore|mlflow) \S")
BLANKS = {"NAME", "mine", "x", "X"}
"""That a reader fills in; so is everything with an ellipsis."""
ELSEWHERE = {"cd", "chgrp", "chmod", "curl", "export", "find", "git"} | {
    *("mkdir", "open", "pip", "pre-commit", "sbatch", "source")
}
"""Programs that are neither ours nor DVC's."""
UNTRIED = {
    ("queue", "stop"): "a signal of DVC's to its own workers",
}
"""Commands of DVC that no test runs, and why."""
MODULES = {name: module for module, name in COMMANDS.items()}


GROUPS = {"exp", "queue", "cache", "remote", "params", "plots", "metrics"}
"""Commands of DVC that have commands."""


def shown(text):
    """Yields each command of a text as words, without what stands in its environment."""
    for console in CONSOLE.findall(text):
        for line in re.sub(r"\\\n *", " ", console).splitlines():
            if line.strip().startswith("$ "):
                yield from simple(line.strip()[2:])
    for code in re.findall(r"(?<!`)`([^`]+)`(?!`)", FENCED.sub("", text)):
        if OURS.match(one := " ".join(code.replace("\\|", "|").split())):
            yield from simple(one)


def simple(line):
    """Splits a line where a shell does."""
    if "$" in line and "$(" not in line:
        return  # its numbers stand in a variable
    words = shlex.split(line, comments=True)
    for is_end, command in itertools.groupby(words, lambda word: word in ("&&", "|", ";")):
        command = [word.rstrip(";") for word in command]
        while command and re.match(r"[A-Z_0-9]+=", command[0]):
            command.pop(0)
        if command and not is_end:
            yield tuple(command)


COMMANDS_SHOWN = sorted({c for path in TEXTS for c in shown(path.read_text())})


def of(*begin):
    return [c[len(begin) :] for c in COMMANDS_SHOWN if c[: len(begin)] == begin]


def stages_shown():
    """Returns a module of `stages` and its words for every command that runs one."""
    found = [(MODULES.get(c[0], c[0]), *c[1:]) for c in of("cssegcore") if not c[0].startswith("-")]
    found += [
        (c[0].removeprefix("stages."), *c[1:]) for c in of("python", "-m") if "stages." in c[0]
    ]
    return sorted({c for c in found if c[0] not in BLANKS})


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


def overrides_shown():
    """Returns the parameters of every experiment, a method at a time."""
    found = set()
    for words in of("dvc", "exp", "run"):
        given = [b for a, b in itertools.pairwise(words) if a == "-S"]
        if "…" in "".join(given) or BLANKS & {o.partition("=")[2] for o in given}:
            continue
        names = [o.partition("=")[0] for o in given]
        values = (o.partition("=")[2].split(",") for o in given)
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


def test_a_test_runs_each_command_of_dvc():
    tests = "".join(path.read_text() for path in (HOME / "tests").rglob("*.py"))
    verbs = {words[: 1 + (words[0] in GROUPS)] for words in of("dvc")}
    quoted = {verb: ", ".join(f'"{word}"' for word in ("dvc", *verb)) for verb in verbs}
    assert {verb for verb, text in quoted.items() if text not in tests} == set(UNTRIED)


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
