"""Everything that this process writes, as Python's audit events tell it."""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
CHANGES = {
    "os.rename": (0, 1),
    "os.remove": (0,),
    "os.mkdir": (0,),
    "os.rmdir": (0,),
    "os.link": (1,),
    "os.symlink": (1,),
    "os.chmod": (0,),
    "os.truncate": (0,),
    "os.utime": (0,),
}
"""Which arguments of an event name what is changed."""

_noted: list[Path] | None = None


@contextlib.contextmanager
def writes() -> Iterator[list[Path]]:
    """Gives a list that fills with the paths that are written, made, moved or removed."""
    global _noted
    if not hasattr(sys, "_cssegcore_watched"):
        sys.addaudithook(_note)  # which nothing can take away again
        sys._cssegcore_watched = True  # type: ignore[attr-defined]
    _noted = []
    try:
        yield _noted
    finally:
        _noted = None


def _note(event: str, arguments: tuple[Any, ...]) -> None:
    if _noted is None:
        return
    if event == "open":
        path, _, flags = arguments
        if isinstance(flags, int) and flags & WRITES:
            _add(path)
    for at in CHANGES.get(event, ()):
        _add(arguments[at])


def _add(path: object) -> None:
    if isinstance(path, str | bytes | os.PathLike) and _noted is not None:
        _noted.append(Path(os.path.realpath(os.fsdecode(path))))
