"""One trial: a forked process that something happens to, watched from outside.

What is slow to import is imported once, by the process that forks.
"""

import contextlib
import dataclasses
import json
import os
import resource
import select
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.helpers.tiny_dataset import run_module
from tests.helpers.written_files import CHANGES, WRITES, writes

LONGEST_LINE = 5000
"""Characters; a message that is longer says nothing."""

LIMIT = 600.0
"""Seconds after which a trial hangs: others may use the machine, too."""

MEMORY = 6 * 2**30
"""Bytes that a trial may take beside what the forking process has."""

_DIR = "cssegcore-torture-tmp"


@dataclasses.dataclass(frozen=True)
class Kill:
    """What is sent to a trial, and when.

    Attributes:
        signal: Of the operating system.
        after: Seconds from the start, or None.
        at_write: The how manieth file that is opened for writing, moved or removed, or 0.
    """

    signal: int
    after: float | None = None
    at_write: int = 0


@dataclasses.dataclass(frozen=True)
class Ended:
    """How a trial ended.

    Attributes:
        status: The exit status, negative for a signal; None if it had to be ended.
        said: What it printed on stderr.
        seconds: That it took.
        writes: How many files it opened for writing, moved or removed; 0 if it was killed.
        outside: Those of them where nothing may be written.
    """

    status: int | None
    said: str
    seconds: float
    writes: int = 0
    outside: tuple[str, ...] = ()

    @property
    def refused(self) -> bool:
        """Whether it said in one line of moderate length what is wrong."""
        line = self.said.splitlines()[-1:] or [""]
        return (
            self.status == 2
            and line[0].startswith("error: ")
            and len(line[0]) < LONGEST_LINE
            and "Traceback" not in self.said
        )

    @property
    def crashed(self) -> bool:
        """Whether it ended in a way that no message explains."""
        well = self.status == 0 or self.refused
        return "Traceback (most" in self.said or not (well or self.status is None)


def forked(
    work: Callable[[], int],
    inside: tuple[Path, ...],
    *,
    seconds: float = LIMIT,
    kill: Kill | None = None,
) -> Ended:
    """Runs `work` in a fork of this process, in a session of its own.

    Args:
        work: What to do; returns the exit status.
        inside: Folders below which it may write.
        seconds: After which it hangs.
        kill: What happens to it.
    """
    with tempfile.TemporaryDirectory(prefix=_DIR) as name:
        said, note = Path(name, "stderr"), Path(name, "note")
        start = time.monotonic()
        child = os.fork()
        if child == 0:
            _child(work, (*inside, Path(name)), said, note, kill)
        status = _wait(child, seconds, kill, start)
        told = json.loads(note.read_text()) if note.exists() else {"writes": 0, "outside": []}
        text = said.read_text(errors="replace") if said.exists() else ""
    taken = time.monotonic() - start
    return Ended(status, text, taken, told["writes"], tuple(told["outside"]))


def _wait(child: int, seconds: float, kill: Kill | None, start: float) -> int | None:
    """Waits for the end; ends what does not come to one, with all that it started."""
    watch = os.pidfd_open(child)
    try:
        if kill and kill.after is not None and not select.select([watch], [], [], kill.after)[0]:
            os.kill(child, kill.signal)
        left = max(0.0, start + seconds - time.monotonic())
        ended = select.select([watch], [], [], left)[0]
        with contextlib.suppress(ProcessLookupError):  # the group goes with its last process
            os.killpg(child, signal.SIGKILL)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        return status if ended else None
    finally:
        os.close(watch)


def _child(
    work: Callable[[], int], inside: tuple[Path, ...], said: Path, note: Path, kill: Kill | None
) -> None:
    """Never comes back."""
    status = 1
    try:
        os.setsid()
        handle = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for standard in (1, 2):
            os.dup2(handle, standard)
        os.environ["TMPDIR"] = tempfile.tempdir = str(note.parent)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        _limit_memory()
        with writes() as noted:
            if kill and kill.at_write:
                _dies_at(kill)
            status = work()
            outside = [str(path) for path in noted if not _allowed(path, inside)]
            told = {"writes": len(noted), "outside": sorted(set(outside))}
        note.write_text(json.dumps(told))
    except KeyboardInterrupt:
        status = 130  # as Python itself, less the traceback that `said` would have
        os.write(2, b"KeyboardInterrupt\n")
    except BaseException:  # noqa: BLE001 - whatever it is, it is what this looks for
        os.write(2, traceback.format_exc()[-20000:].encode())
    finally:
        os._exit(status)


def _limit_memory() -> None:
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, resource.RLIM_INFINITY))


def _allowed(path: Path, inside: tuple[Path, ...]) -> bool:
    return path.parts[1] in ("dev", "proc") or any(
        path == place or place in path.parents for place in inside
    )


def _dies_at(kill: Kill) -> None:
    left = kill.at_write

    def count(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal left
        opened = event == "open" and isinstance(arguments[2], int) and arguments[2] & WRITES
        if opened or event in CHANGES:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), kill.signal)

    sys.addaudithook(count)


def command(arguments: list[str]) -> int:
    """Runs `python -m …` here and hands on what it says; returns its exit status."""
    outcome = run_module(*arguments)
    os.write(2, outcome.err.encode(errors="replace"))
    return outcome.status


@contextlib.contextmanager
def at(folder: Path, **environment: str | None) -> Iterator[None]:
    """Has the block run in a folder with variables set, or taken away by None."""
    before, kept = Path.cwd(), dict(os.environ)
    os.chdir(folder)
    for name, value in environment.items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value
    try:
        yield
    finally:
        os.chdir(before)
        os.environ.clear()
        os.environ.update(kept)
