"""A file that is changed, and what reads it."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.torture import _mutate
from bench.torture._ledger import OTHER
from bench.torture._tree import Tree
from cssegcore.core.errors import InputError
from tests.helpers import tiny_dataset as scenes


@dataclasses.dataclass(frozen=True)
class Target:
    """A file to change, and who reads it.

    Attributes:
        fault: The row of the table.
        kind: Of the tree.
        path: The file.
        mutate: How it is changed.
        read: What a stage does with it; run in the project's folder.
        usual: How often it is changed.
        otherwise: The word if what is read is something else.
    """

    fault: str
    kind: str
    path: Path
    mutate: _mutate.Mutate
    read: Callable[[], Any]
    usual: int
    otherwise: str = OTHER


def stage(tree: Tree, name: str, *arguments: str, kept: bool = False) -> Callable[[], Any]:
    """Returns what runs a stage as it is and digests what it makes.

    Args:
        tree: Where.
        name: Of the stage.
        arguments: More of them.
        kept: Whether it finds the state that a process before it left.
    """
    given = [*tree.project.commands[name], *arguments]

    def read() -> dict[str, str]:
        (tree.clear if kept else tree.anew)(name)
        run(given)
        return tree.made(name)

    return read


def run(arguments: list[str]) -> None:
    """Runs a command of the project here.

    Raises:
        InputError: It refuses what it reads.
    """
    outcome = scenes.run_module(*arguments)
    if outcome.status == 2 and outcome.err.startswith("error: "):
        raise InputError(outcome.err.removeprefix("error: ").rstrip())
    if outcome.status:
        raise AssertionError(outcome)
