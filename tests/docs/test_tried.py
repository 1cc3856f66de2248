"""Every command that a text shows is run by a test, or stands below with a reason.

Looked for are the texts of the tests: a file that holds a command's words as they are passed on,
and the option beside them, has run it. Whoever adds a command to a text adds a test, or a reason.
"""

import ast
import functools
import itertools

from stages.__main__ import COMMANDS
from tests.helpers.shown_commands import COMMANDS_SHOWN, TEXTS, shown
from tests.helpers.tiny_dataset import HOME

GROUPS = {"exp", "queue", "cache", "remote", "params", "plots", "metrics"}
"""Commands of DVC that have commands."""
FROM_THE_TEXT = {
    ("queue", "start", "-j"): "tests/clusters/test_gpus_of_workers.py",
}
"""Options that a test takes from the text itself, and where."""
UNTRIED = {
    "dvc queue stop": "a signal of DVC's to its own workers",
    "make check": "CI and whoever runs `make test` run it before the tests",
    "make demo": "`dvc pull` and `dvc repro`, which tests run; minutes on the whole dataset",
    "make docs": "tests/docs/test_site.py runs its command, with a folder of its own",
    "make format": "it would rewrite the tree that is tested",
    "make test": "it runs this test",
    "make test-all": "it runs this test",
    "make test-fast": "it runs this test",
    "bench.compiling": "compiles for minutes, what tests/training/test_compile.py compiles",
    "bench.index": "asks for the archive of VOC's labels",
    "bench.inversion": "draws images for minutes, by code that tests/inversion runs",
    "bench.memory": "draws trees of thousands of files",
    "bench.pipeline": "a whole pipeline in a clone: what tests/pipeline does, timed",
    "bench.pseudo_labels": "asks for a finished run in work/",
    "bench.selection": "trains and tests after every epoch, for minutes",
    "bench.spinning": "times trainings that fight for cores, for a minute",
    "bench.torture": "hours; tests/bench/test_torture.py runs its trials one by one",
}
"""What no test runs, and why. Of stages there is nothing."""
BLANKS = {"X"}
MODULES = {name: module for module, name in COMMANDS.items()}


@functools.cache
def trees():
    """Returns each file of tests as a tree, but those that speak about commands."""
    files = (HOME / "tests").rglob("*.py")
    return {
        path.relative_to(HOME).as_posix(): ast.parse(path.read_text())
        for path in files
        if path.parent.name != "docs" and path.stem != "shown_commands"
    }


def strings(tree):
    return {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}


@functools.cache
def of_files():
    return [strings(tree) for tree in trees().values()]


@functools.cache
def of_functions():
    nodes = (node for tree in trees().values() for node in ast.walk(tree))
    return [strings(node) for node in nodes if isinstance(node, ast.FunctionDef)]


def is_run(*words, among=of_files):
    """Tells whether one file, or function, has all of these words, each a string of its own."""
    return any(one.issuperset(words) for one in among())


def with_each_option(words):
    """Returns nothing, then each option by itself."""
    return [[], *([word] for word in words if word.startswith("-"))]


def of_dvc(verb, *rest):
    if verb in GROUPS:
        verb, rest = (verb, rest[0]), rest[1:]
    else:
        verb = (verb,)
    for option in with_each_option(rest):
        if (*verb, *option) not in FROM_THE_TEXT and not is_run("dvc", *verb, *option):
            yield " ".join(["dvc", *verb, *option])


def of_make(target, *_):
    if not is_run("make", target, among=of_functions):  # `check` is a stage, too
        yield f"make {target}"


def of_cssegcore(command, *given):
    if not command.startswith("-"):
        yield from of_stage(MODULES.get(command, command), given)


def of_mlflow(*words):
    names = tuple(itertools.takewhile(lambda word: not word.startswith("-"), words))
    for option in with_each_option(words):
        if not is_run(*names, *option):
            yield " ".join(["mlflow", *names, *option])


def of_python(_, module, *given):
    package, _, name = module.partition(".")
    if package == "stages":
        yield from of_stage(name, given)
    elif package == "bench" and not is_run(module, "-S") and not is_run(module, "--turns"):
        yield module


def of_stage(name, given):
    callers = {f"stages.{name}", COMMANDS.get(name, name)}
    for option in with_each_option(given):
        if name not in BLANKS and not any(is_run(caller, *option) for caller in callers):
            yield " ".join([f"stages.{name}", *option])


PROGRAMS = {
    "cssegcore": of_cssegcore,
    "dvc": of_dvc,
    "make": of_make,
    "mlflow": of_mlflow,
    "python": of_python,
}


def without_a_test():
    """Yields the commands, and commands with one option, of which no test has the words."""
    for program, *rest in COMMANDS_SHOWN:
        if program in PROGRAMS:
            yield from PROGRAMS[program](*rest)


def test_what_no_test_runs_has_a_reason():
    assert set(without_a_test()) == set(UNTRIED)


def test_options_that_a_test_takes_from_the_text_are_taken():
    for (_, *words), file in FROM_THE_TEXT.items():
        assert "clusters.md" in strings(trees()[file])
        (page,) = (path for path in TEXTS if path.name == "clusters.md")
        assert any({"queue", *words} <= set(command) for command in shown(page.read_text()))


def test_an_option_that_nobody_tries_is_found():
    assert is_run("stages.predict", "--json")
    assert not is_run("stages.predict", "--no-such-option")
