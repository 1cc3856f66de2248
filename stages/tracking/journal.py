"""The writer's side: a journal that a failing disk cannot turn into a failing training."""

import contextlib
import errno
import logging
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol, final

from stages.tracking import locks
from stages.tracking.events import Artifacts, Closed, Event, Opened, encode

SUFFIX = ".jsonl"

_log = logging.getLogger(__name__)


def copies_of(journal: Path) -> Path:
    """Returns the folder that holds the artifacts of a journal until they are sent."""
    return journal.with_suffix(".files")


class Sink(Protocol):
    """Where the events of one process go."""

    def append(self, event: Event) -> None: ...

    def append_files(self, source: Path, *, part: str, folder: str) -> None: ...

    def close(self) -> None: ...


@final
class Nowhere:
    """The sink when tracking is off."""

    def append(self, event: Event) -> None: ...

    def append_files(self, source: Path, *, part: str, folder: str) -> None: ...

    def close(self) -> None: ...


@final
class Journal:
    """One file of one process, locked while that process lives.

    A line is one `write` to a file opened for appending: after SIGKILL every line before the
    last stands whole. The first failure is said on stderr, the others are not.
    """

    def __init__(self, spool: Path, opened: Opened) -> None:
        self._spool = spool
        self._opened = opened
        self._path: Path | None = None
        self._descriptor = -1
        self._torn = False
        self._complained = False
        with self._harmless():
            self._open()

    def append(self, event: Event) -> None:
        """Writes one event down."""
        with self._harmless():
            self._open()
            self._write(event)

    def append_files(self, source: Path, *, part: str, folder: str) -> None:
        """Copies a file or a whole folder beside the journal, and writes that down.

        Copies, because the outs of a temporary copy of the repository vanish with it.
        """
        with self._harmless():
            copies = copies_of(self._open()) / str(time.time_ns())
            copies.parent.mkdir(exist_ok=True)
            if source.is_dir():
                # Without modes: files linked to DVC's cache are read-only.
                shutil.copytree(source, copies, copy_function=shutil.copyfile)
            else:
                copies.mkdir()
                shutil.copyfile(source, copies / source.name)
            self._write(Artifacts(part=part, copies=copies.name, folder=folder))

    def close(self) -> None:
        """Writes that nothing more will come, and lets the sender have the file."""
        if self._path is not None:
            self.append(Closed())
            os.close(self._descriptor)
            self._path = None

    def _open(self) -> Path:
        """Makes the file if it is not there yet; readers see it locked and with its first line."""
        if self._path is None:
            self._spool.mkdir(parents=True, exist_ok=True)
            # Names sort by time: what happened first is sent first.
            name = f"{time.time_ns()}-{self._opened.key}-{os.getpid()}"
            unborn = self._spool / f"{name}.new"
            self._descriptor = os.open(unborn, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            self._torn = False
            try:
                with contextlib.suppress(OSError):  # no locks here: the sender will be careful
                    locks.take(self._descriptor)
                self._write(self._opened)
                self._path = unborn.replace(unborn.with_suffix(SUFFIX))
            except OSError:
                os.close(self._descriptor)
                unborn.unlink(missing_ok=True)
                raise
        return self._path

    def _write(self, event: Event) -> None:
        line = b"\n" * self._torn + encode(event)
        self._torn = True
        if os.write(self._descriptor, line) < len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._spool))
        self._torn = False

    @contextlib.contextmanager
    def _harmless(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if not self._complained:
                _log.warning("tracking misses something, the work goes on: %s", error)
            self._complained = True
