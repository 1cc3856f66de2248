"""Locks that the kernel takes back when their holder dies, however it dies."""

import contextlib
import fcntl
import time
from collections.abc import Iterator
from pathlib import Path

_POLL_SECONDS = 0.1


@contextlib.contextmanager
def hold(path: Path, *, patience: float = 0.0) -> Iterator[bool]:
    """Holds the lock `path` during the block, and says whether it could be had.

    Args:
        path: The lock's file, made if need be and left behind.
        patience: Seconds to wait for another holder.
    """
    deadline = time.monotonic() + patience
    with path.open("ab") as file:
        while not (got := take(file.fileno())) and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
        yield got


def take(descriptor: int) -> bool:
    """Locks an open file until it is closed, unless somebody else has."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_held(path: Path) -> bool:
    """Says whether somebody holds the lock now. A file that is not there is held by nobody.

    On a file system without locks nobody can tell, and the answer is the careful one: yes.
    """
    try:
        # Opened for writing, because NFS locks nothing else exclusively.
        with path.open("r+b") as file:
            return not take(file.fileno())
    except FileNotFoundError:
        return False
    except OSError:
        return True
