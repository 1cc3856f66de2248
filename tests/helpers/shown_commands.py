"""The commands that README and docs show, as words: what a reader would type into a shell."""

import itertools
import re
import shlex
from collections.abc import Iterator

from tests.helpers.tiny_dataset import HOME

TEXTS = [
    path
    for path in sorted([*HOME.glob("*.md"), *HOME.glob("docs/*.md")])
    if path.name not in ("CHANGELOG.md", "papers.md")
]
"""The changelog tells of earlier commands; `tests/bench/test_papers.py` composes the papers'."""
FENCED = re.compile(r"^ *```(\w*)\n(.*?)^ *```", re.S | re.M)
OURS = re.compile(r"(?:[A-Z_0-9]+=\S+ )*(?:dvc|python -m|make|cssegcore|mlflow) \S")
PIPED = re.compile(rf"(?:.*\| )?{OURS.pattern}")

Words = tuple[str, ...]


def shown(text: str) -> Iterator[Words]:
    """Yields each command of a text as words, without what stands in its environment.

    They are the lines of consoles, lines of other code without a language and of indented code
    that begin with a program of ours, and code in a sentence that begins with one or is piped
    into one.
    """
    for language, block in FENCED.findall(text):
        if language == "console":
            lines = (line[2:] for line in joined(block) if line.startswith("$ "))
            yield from block_commands(lines)
        elif not language:
            yield from block_commands(filter(OURS.match, joined(block)))
    text = FENCED.sub("", text)
    for line in re.findall(r"^ {4,}(\S.*)$", text, re.M):
        if OURS.match(line):
            yield from simple(line)
    for code in re.findall(r"(?<!`)`([^`]+)`(?!`)", text):
        if PIPED.match(one := " ".join(code.replace("\\|", "|").split())):
            yield from simple(one)


def joined(block: str) -> list[str]:
    """Returns the lines of a block; a backslash continues a line."""
    return [line.strip() for line in re.sub(r"\\\n *", " ", block).splitlines()]


def block_commands(lines: Iterator[str]) -> Iterator[Words]:
    """Yields the commands of one block, whose variables its own lines set."""
    variables: dict[str, str] = {}
    for line in lines:
        if assigned := re.fullmatch(r'([A-Z_0-9]+)="([^"]*)"', line):
            variables[assigned[1]] = assigned[2]
        else:
            yield from simple(re.sub(r"\$([A-Z_0-9]+)", lambda name: variables[name[1]], line))


def simple(line: str) -> Iterator[Words]:
    """Splits a line where a shell does."""
    words = shlex.split(line, comments=True)
    for is_end, group in itertools.groupby(words, lambda word: word in ("&&", "|", ";")):
        command = [word.rstrip(";") for word in group]
        while command and re.match(r"[A-Z_0-9]+=", command[0]):
            command.pop(0)
        if command and not is_end:
            yield tuple(command)


COMMANDS_SHOWN = sorted({c for path in TEXTS for c in shown(path.read_text())})


def of(*begin: str) -> list[Words]:
    """Returns what follows `begin` in the commands that begin so."""
    return [c[len(begin) :] for c in COMMANDS_SHOWN if c[: len(begin)] == begin]
