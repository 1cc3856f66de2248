"""Journals: files that a failing disk cannot turn into a failing training.

A process writes one, with one event a line as JSON, and holds its lock while it lives. A sender
reads it, then deletes it. The kernel takes locks back when their holder dies, however it dies.
"""

import contextlib
import errno
import fcntl
import json
import logging
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import final

from ..common.places import scratch
from .tracker import Artifacts, Closed, Ended, Event, Metrics, Opened, Packaged

_KINDS: dict[str, type[Event]] = {
    kind.__name__: kind for kind in (Opened, Metrics, Artifacts, Packaged, Ended, Closed)
}
_SUFFIX = ".jsonl"
_POLL_SECONDS = 0.1

_log = logging.getLogger(__name__)


def spool() -> Path:
    """Returns the folder of the journals, shared by all stages and queue workers."""
    return scratch().resolve() / "tracking"


def journals() -> list[Path]:
    """Returns the journals that are not sent or still being written, the oldest first."""
    return sorted(spool().glob(f"*{_SUFFIX}"))


@contextlib.contextmanager
def hold_lock(path: Path, *, patience: float = 0.0) -> Iterator[bool]:
    """Holds the lock `path` during the block, and says whether it could be had.

    Args:
        path: The lock's file, made if need be and left behind.
        patience: Seconds to wait for another holder.
    """
    deadline = time.monotonic() + patience
    with path.open("ab") as file:
        while not (got := _lock(file.fileno())) and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
        yield got


def is_locked(path: Path) -> bool:
    """Says whether a process holds the lock now; a journal's writer does while it lives.

    A file that is not there is held by none. On a file system without locks nobody can tell, and
    the answer is the careful one: yes.
    """
    try:
        # Opened for writing, because NFS locks nothing else exclusively.
        with path.open("r+b") as file:
            return not _lock(file.fileno())
    except FileNotFoundError:
        return False
    except OSError:
        return True


@final
class Journal:
    """What one process writes.

    A line is one `write` to a file opened for appending: after SIGKILL every line before the
    last stands whole. The first failure is said on stderr, the others are not.
    """

    def __init__(self, opened: Opened) -> None:
        self._spool = spool()
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
            copies = self._copied(source)
            self._write(Artifacts(part=part, copies=copies, folder=folder))

    def append_model(self, source: Path, *, part: str, registered: str) -> None:
        """Copies a model's file beside the journal, and writes down that it is to be offered."""
        with self._harmless():
            copies = self._copied(source)
            self._write(Packaged(part=part, copies=copies, registered=registered))

    def _copied(self, source: Path) -> str:
        """Copies a file, or all that is in a folder, into a new folder and returns its name."""
        copies = _copies_of(self._open()) / str(time.time_ns())
        copies.parent.mkdir(exist_ok=True)
        if source.is_dir():
            # Without modes: files linked to DVC's cache are read-only.
            shutil.copytree(source, copies, copy_function=shutil.copyfile)
        else:
            copies.mkdir()
            shutil.copyfile(source, copies / source.name)
        return copies.name

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
                    _lock(self._descriptor)
                self._write(self._opened)
                self._path = unborn.replace(unborn.with_suffix(_SUFFIX))
            except OSError:
                os.close(self._descriptor)
                unborn.unlink(missing_ok=True)
                raise
        return self._path

    def _write(self, event: Event) -> None:
        # JSON escapes every line end within.
        text = json.dumps({"kind": type(event).__name__, **asdict(event)}) + "\n"
        line = b"\n" * self._torn + text.encode()
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


@final
class Reader:
    """Reads one journal piece by piece.

    `read` gives the same events again until `accept` says that they have arrived.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.copies = _copies_of(path)
        self._accepted = 0
        self._read = 0

    def read(self) -> list[Event]:
        """Returns the events after those accepted.

        A last line without its end is left alone: it is being written, or its writer died over
        it. Whole lines that are no events are passed over.
        """
        with self.path.open("rb") as file:
            file.seek(self._accepted)
            whole, end, _ = file.read().rpartition(b"\n")
        self._read = self._accepted + len(whole) + len(end)
        return [event for line in whole.split(b"\n") if (event := _decode(line)) is not None]

    def accept(self) -> None:
        """Takes note that all events read so far have arrived."""
        self._accepted = self._read

    def remove(self) -> None:
        """Deletes the journal and the copies beside it. The journal goes last: it names them."""
        shutil.rmtree(self.copies, ignore_errors=True)
        self.path.unlink(missing_ok=True)

    def set_aside(self) -> Path:
        """Keeps the journal for a person to look at, where it stops no other."""
        return self.path.replace(self.path.with_suffix(".refused"))


def _copies_of(journal: Path) -> Path:
    """Returns the folder that holds the artifacts of a journal until they are sent."""
    return journal.with_suffix(".files")


def _decode(line: bytes) -> Event | None:
    """Reads a line, or gives None if it is no event: torn by a full disk, or of another version."""
    try:
        fields = json.loads(line)
        return _KINDS[fields.pop("kind")](**fields)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _lock(descriptor: int) -> bool:
    """Locks an open file until it is closed, unless another process has."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
