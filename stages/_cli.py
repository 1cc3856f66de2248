"""How every stage is run: a typer command whose errors are one line."""

import os
import sys
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import typer

from cssegcore.errors import InputError

T = TypeVar("T")


def run(command: Callable[..., None]) -> None:
    """Runs `command` on the command line's arguments.

    What a user can mend is printed as one line with exit status 2, everything else keeps its
    traceback.
    """
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(command)
    try:
        app(prog_name=f"python -m {sys.modules['__main__'].__spec__.name}")  # type: ignore[union-attr]
    except (InputError, FloatingPointError) as error:
        typer.echo(f"error: {error}", err=True)
        raise SystemExit(2) from None
    except OSError as error:
        if error.errno is None or error.filename is None:
            raise
        typer.echo(
            f"error: {error.filename}: {error.strerror}. Mend that and run the same command again;"
            " finished work is kept.",
            err=True,
        )
        raise SystemExit(2) from None


def say(text: str) -> None:
    """Prints one line of what was done."""
    typer.echo(text)


def interactive() -> bool:
    """Whether somebody watches: no bars in CI, under DVC, or into a file."""
    quiet = os.environ.get("CI") or os.environ.get("DVC_STAGE")
    return not quiet and sys.stderr.isatty()


def bar(unit: str, title: str = "") -> Callable[[Iterable[Any], int], Iterable[Any]]:
    """Returns a wrapper that shows progress over an iterable of a known length."""

    def wrap(items: Iterable[T], total: int) -> Iterable[T]:
        if not interactive():
            return items
        from tqdm import tqdm

        return tqdm(items, title, total, unit=unit, leave=False)

    return wrap
