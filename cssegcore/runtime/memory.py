"""Memory for the images of a process, by the environment; it is no parameter of the result."""

import math
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final, final

from cssegcore.core.errors import InputError
from cssegcore.runtime.distributed import node

MEMORY: Final = "CSSEGCORE_MEMORY"
"""Environment variable: GiB for the decoded images of all processes of a training on this node."""

DEFAULT_PART: Final = 16
"""If it is not set, images get this part of the memory that is free: other trainings may run."""

_UNKNOWN: Final = 4 * 2**30
"""Bytes that count as free where the system does not tell."""


@final
class MemoryBudget:
    """Bytes that the decoded images of a process may take.

    Attributes:
        size: Number of these bytes.
        is_given: Whether the environment sets it.
    """

    def __init__(self, size: int, *, is_given: bool = True) -> None:
        self.size, self.is_given = size, is_given
        self._left = size
        self._lock = threading.Lock()

    @classmethod
    def of_environment(cls) -> "MemoryBudget":
        """Returns this process's part of `CSSEGCORE_MEMORY`, or of the free memory.

        Raises:
            InputError: It is no number of GiB.
        """
        text = os.environ.get(MEMORY)
        size = _bytes(text) if text else free_memory() // DEFAULT_PART
        return cls(size // node().size, is_given=bool(text))

    def take(self, count: int) -> bool:
        """Takes `count` bytes if so many are left; returns whether it did. Threads may call it."""
        with self._lock:
            fits = count <= self._left
            self._left -= count if fits else 0
            return fits


def free_memory(root: Path = Path("/")) -> int:
    """Returns the bytes that processes may still take, within the limits of control groups.

    The system's file cache counts as free.

    Args:
        root: Folder of the system's files; tests have one of their own.
    """
    limits = [*_of_system(root), *_of_control_groups(root)]
    return max(0, min(limits)) if limits else _UNKNOWN


def _bytes(text: str) -> int:
    try:
        size = float(text)
    except ValueError:
        size = math.nan
    if not 0 < size < math.inf:
        raise InputError(f"{MEMORY} is {text[:40]!r}: set a number of GiB, such as 4 or 0.5.")
    return int(size * 2**30)


def _of_system(root: Path) -> Iterator[int]:
    try:
        rows = (root / "proc/meminfo").read_text().splitlines()
        yield from (int(row.split()[1]) * 2**10 for row in rows if row.startswith("MemAvailable:"))
    except OSError:  # not Linux
        if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
            yield os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _of_control_groups(root: Path) -> Iterator[int]:
    """Yields the bytes left by each of this process's control groups, of version 1 and 2."""
    try:
        rows = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    base = root / "sys/fs/cgroup"
    for row in rows:
        _, controllers, path = row.split(":", 2)
        if not controllers:
            folder, names = base, ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            folder = base / "memory"
        else:
            continue
        own = folder / path.lstrip("/")  # a container may see its own group as the root
        for place in {own, *own.parents, folder}:
            if place == folder or folder in place.parents:
                yield from _left(place, *names)


def _left(group: Path, limit: str, usage: str, cache: str) -> Iterator[int]:
    try:
        most, used = (group / limit).read_text().strip(), int((group / usage).read_text())
        rows = (group / "memory.stat").read_text().splitlines()
    except (OSError, ValueError):  # the root of version 2 has no such files
        return
    cached = sum(int(row.split()[1]) for row in rows if row.split()[0] == cache)
    if most.isdecimal():  # or it is "max"
        yield int(most) - used + cached
