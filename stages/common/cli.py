"""How every stage is run: a typer command whose errors are one line."""

import functools
import json
import os
import shutil
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NoReturn, TextIO, TypeVar

import typer

from cssegcore.core.errors import InputError, InputWarning
from cssegcore.core.names import printable
from cssegcore.core.types import Progress
from cssegcore.runtime.threads import limit_spinning

from .. import INTERRUPTED, leave

T = TypeVar("T")

AGAIN = "Fix that and run the same command again; finished work is kept."
DEBUG = "CSSEGCORE_DEBUG"
"""Has every error show its traceback."""
PIPELINE = ("dvc", "hydra", "mlflow", "omegaconf", "yaml")
"""Packages that the library alone does not bring."""
LONGEST = 4000
"""Characters of a message; what is behind them is of no use."""


def run(command: Callable[..., None]) -> None:
    """Runs `command` on the command line's arguments, as `python -m …` does."""
    name = sys.modules["__main__"].__spec__.name  # type: ignore[union-attr]
    start(one_command(command), f"python -m {name}")


def one_command(
    command: Callable[..., None], name: str | None = None, panel: str | None = None
) -> typer.Typer:
    """Returns the application of one command, which stands in the help's `panel`."""
    from .unchanged import check_parameters

    @functools.wraps(command)
    def checked(*arguments: object, **options: object) -> None:
        command(*arguments, **options)
        check_parameters()

    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command(name, rich_help_panel=panel)(checked)
    return app


def start(app: typer.Typer, name: str) -> None:
    """Runs an application on the command line's arguments.

    What a user can fix is printed as one line with exit status 2, everything else keeps its
    traceback; with `CSSEGCORE_DEBUG` in the environment both show it.

    Args:
        app: The application.
        name: Its name in help and messages.
    """
    from .once import clear

    limit_spinning()
    _shorten_warnings()
    if signal.getsignal(signal.SIGINT) is leave:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if is_main():
        clear()
    _call(app, name)


def _call(app: typer.Typer, name: str) -> None:
    try:
        app(prog_name=name)
    except SystemExit as end:
        if end.code == 130 and is_main():  # typer's, for Ctrl-C
            typer.echo(INTERRUPTED, err=True, nl=False)
        raise
    except Exception as error:
        if (message := refusal(error)) is None:
            raise
        if os.environ.get(DEBUG):
            traceback.print_exception(error)
        _refuse(message)


def refusal(error: Exception) -> str | None:
    """Returns what a person is told of an error; None of one that is a fault of ours."""
    if isinstance(error, InputError | FloatingPointError):
        return str(error)
    if isinstance(error, ModuleNotFoundError) and error.name in PIPELINE:
        return f"{error.name} is not installed: run `pip install 'cssegcore[pipeline]'`."
    if isinstance(error, shutil.Error):  # of every file of a folder at once
        return f"cannot copy: {error.args[0][0][2]}. {AGAIN}"
    if isinstance(error, OSError) and error.errno is not None and error.filename is not None:
        return f"{error.filename}: {error.strerror}. {AGAIN}"
    if _is_out_of_memory(error):
        return (
            f"the memory does not suffice ({str(error)[:200] or 'MemoryError'}): set a smaller"
            " `optimizer.batch_size`, `evaluation.batch_size`, `augmentation.size` or `model`, or"
            f" end what else runs here. {AGAIN}"
        )
    return None


def _is_out_of_memory(error: BaseException) -> bool:
    """Whether it is Python's or PyTorch's error, which is no `MemoryError`: on GPUs, on CPUs."""
    said = str(error).lower() if isinstance(error, RuntimeError) else ""
    words = ("out of memory", "can't allocate memory", "not enough memory", "size calculation over")
    return isinstance(error, MemoryError) or any(word in said for word in words)


def _refuse(message: str) -> NoReturn:
    """Ends the process; of several processes, it is torchrun that says why, once."""
    if len(message) > LONGEST:  # where it is stands first, and the way out last
        message = f"{message[: LONGEST // 2]} … {message[-LONGEST // 4 :]}"
    message = printable(" ".join(message.splitlines()))
    told = {"message": message, "timestamp": int(time.time())}
    if file := os.environ.get("TORCHELASTIC_ERROR_FILE"):
        Path(file).write_text(json.dumps(told), encoding="utf-8")
    else:
        typer.echo(f"error: {message}", err=True)
    raise SystemExit(2) from None


def is_main() -> bool:
    """Whether this is the first of several processes (torchrun's `RANK`), or the only one."""
    return os.environ.get("RANK", "0") == "0"


def say(text: str) -> None:
    """Prints one line of what was done, from the first process."""
    if is_main():
        typer.echo(printable(text))


def _shorten_warnings() -> None:
    usual = warnings.showwarning

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if issubclass(category, InputWarning):
            warn(str(message))
        else:
            usual(message, category, filename, lineno, file, line)

    warnings.showwarning = show


def warn(text: str) -> None:
    """Prints one line of what a person should look at, to stderr, from the first process."""
    if is_main():
        typer.echo(f"warning: {printable(text)}", err=True)


def interactive() -> bool:
    """Whether somebody watches: no bars in CI, under DVC, or into a file."""
    quiet = os.environ.get("CI") or os.environ.get("DVC_STAGE")
    return is_main() and not quiet and sys.stderr.isatty()


def bar(unit: str, title: str = "") -> Progress:
    """Returns a wrapper that shows progress over an iterable of a known length."""

    def wrap(items: Iterable[T], total: int) -> Iterable[T]:
        if not interactive():
            return items
        from tqdm import tqdm

        return tqdm(items, title, total, unit=unit, leave=False)

    return wrap
