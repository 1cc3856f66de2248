"""Everything that this process writes, as Python's audit events tell it."""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
CHANGES = {
    "os.rename": ((0, 2), (1, 3)),
    "os.remove": ((0, 1),),
    "os.mkdir": ((0, 2),),
    "os.rmdir": ((0, 1),),
    "os.link": ((1, 3),),
    "os.symlink": ((1, 2),),
    "os.chmod": ((0, 2),),
    "os.truncate": ((0, None),),
    "os.utime": ((0, 3),),
}
"""Which arguments of an event name what is changed, and the open folder that a name is below."""

_noted: list[Path] | None = None


@contextlib.contextmanager
def writes() -> Iterator[list[Path]]:
    """Gives a list that fills with the paths that are written, made, moved or removed.

    Python caches no bytecode meanwhile: whichever module is imported first would write it.
    """
    global _noted
    if not hasattr(sys, "_cssegcore_watched"):
        sys.addaudithook(_note)  # which nothing can take away again
        sys._cssegcore_watched = True  # type: ignore[attr-defined]
    _noted = []
    cached, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        yield _noted
    finally:
        _noted = None
        sys.dont_write_bytecode = cached


def _note(event: str, arguments: tuple[Any, ...]) -> None:
    if _noted is None:
        return
    if event == "open":
        path, _, flags = arguments
        if isinstance(flags, int) and flags & WRITES:
            _add(path)
    for at, folder in CHANGES.get(event, ()):
        opened = -1 if folder is None else arguments[folder]
        _add(arguments[at], f"/proc/self/fd/{opened}" if opened >= 0 else "")


def _add(path: object, folder: str = "") -> None:
    if isinstance(path, str | bytes | os.PathLike) and _noted is not None:
        _noted.append(Path(os.path.realpath(os.path.join(folder, os.fsdecode(path)))))  # noqa: PTH118
