"""Long work done once: by one process at a time, and kept until DVC has its result.

Two workers of DVC's queue that start together find the same training missing in the cache and would
both do it. And a DVC that is killed after a training, or whose disk is full, has lost its result.
So work goes by the name of its state (`resume_path`), which stands for all that determines the
result. A lock beside the state lets one process work, the others then find the state finished. It
stays until `dvc.lock` names the result, which DVC does last of all.
"""

import contextlib
import fcntl
import functools
import hashlib
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from cssegcore.core.errors import InputError
from cssegcore.core.files import write_json

from .places import files_beside, states

BEAT = 5.0
"""Seconds between a holder's signs of life."""

SILENCE = 300.0
"""Seconds without one after which nobody waits any longer."""

GRACE = 600.0
"""Seconds that a state stays though its result is safe: others may be about to take it."""

ABANDONED = 90 * 86400.0
"""Seconds after which a state is cleared that nobody came back for."""


@contextlib.contextmanager
def alone(state: Path, tell: Callable[[str], None]) -> Iterator[None]:
    """Waits until no other process does the work of `state`, and keeps others from it meanwhile.

    The system frees the lock of a process that is gone. Of several processes of one training, the
    one that started them holds it. On a file system that knows no locks nobody waits.

    Args:
        state: The file of the work's state, by whose name two works are the same.
        tell: Receives one line that says for whom this process waits.

    Raises:
        InputError: The process that holds the lock gave no sign of life for a while.
    """
    if "RANK" in os.environ or os.environ.get("PET_NODE_RANK", "0") != "0":
        yield
        return
    lock = state.with_suffix(".lock")
    try:
        handle = _wait(lock, tell)
    except OSError:
        yield  # a training can go on without its safety net, too
        return
    done = threading.Event()
    beating = threading.Thread(target=_beat, args=(lock, done), daemon=True)
    try:
        beating.start()
        yield
    finally:
        done.set()
        beating.join()
        lock.unlink(missing_ok=True)
        os.close(handle)


def _wait(lock: Path, tell: Callable[[str], None]) -> int:
    """Returns the locked file's descriptor once it is free."""
    seen, since, told = "", time.monotonic(), False
    while (handle := _take(lock)) is None:
        with contextlib.suppress(OSError):
            sign = f"{lock.stat().st_ino} {lock.stat().st_mtime_ns}"
            seen, since = sign, (since if sign == seen else time.monotonic())
        if time.monotonic() - since > SILENCE:
            raise InputError(
                f"{_holder(lock)} does the same work and gave no sign of life for {SILENCE:.0f}"
                " seconds: let it go on (`kill -CONT`) or end it, then run the same command again."
            )
        if not told:
            tell(f"{lock.stem.rpartition('-')[0]}: {_holder(lock)} does this already; waiting.")
            told = True
        time.sleep(BEAT / 20)
    about = {"process": os.getpid(), "host": socket.gethostname(), "folder": str(Path.cwd())}
    os.write(handle, json.dumps(about | {"since": time.strftime("%F %T")}).encode())
    return handle


def _take(lock: Path) -> int | None:
    """Returns a descriptor that holds the lock, or nothing if another process does."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(handle).st_ino == lock.stat().st_ino:  # not one that was just removed
            os.truncate(handle, 0)
            return handle
    except (BlockingIOError, FileNotFoundError):
        pass
    except BaseException:
        os.close(handle)
        raise
    os.close(handle)
    return None


def _holder(lock: Path) -> str:
    try:
        about = json.loads(lock.read_bytes())
        return "process {process} on {host} (since {since}, in {folder})".format_map(about)
    except (OSError, ValueError, RecursionError, LookupError, TypeError):
        return "another process"


def _beat(lock: Path, done: threading.Event) -> None:
    while not done.wait(BEAT):
        with contextlib.suppress(OSError):
            os.utime(lock)


def keep(state: Path, outs: Sequence[Path]) -> None:
    """Notes that the work of `state` is finished, and what DVC will know its results by."""
    with contextlib.suppress(InputError):  # a full disk: the state stays as one of a killed process
        write_json(_note(state), {"outs": [dvc_md5(path) for path in outs], "safe": False})


def finished(state: Path) -> bool:
    """Whether a process brought the work of `state` to its end."""
    return state.exists() and "outs" in _read(_note(state))


def clear() -> None:
    """Removes states whose results DVC has had for a while, and those that nobody came back for.

    A state of a running process is locked. That DVC has a result is seen by any later stage in the
    same folder, and noted: DVC's temporary copies, and `dvc.lock` with them, go away.
    """
    known = ""
    with contextlib.suppress(OSError):
        known = Path("dvc.lock").read_text(encoding="utf-8", errors="replace")
    for state in states():
        with contextlib.suppress(OSError, InputError):
            _clear(state, known)


def _clear(state: Path, known: str) -> None:
    lock, note = state.with_suffix(".lock"), _note(state)
    about, now = _read(note), time.time()
    if not about.get("safe") and about.get("outs") and all(out in known for out in about["outs"]):
        write_json(note, about | {"safe": True})
    safe = about.get("safe") and now - note.stat().st_mtime > GRACE
    files = (state, *files_beside(state), note, lock)
    newest = max((path.stat().st_mtime for path in files if path.exists()), default=now)
    if not safe and now - newest < ABANDONED:
        return
    if (handle := _take(lock)) is not None:
        for path in files:
            path.unlink(missing_ok=True)
        os.close(handle)


def _note(state: Path) -> Path:
    return state.with_suffix(".finished")


def _read(note: Path) -> dict[str, Any]:
    """Returns what a note says; nothing if it is not there or damaged."""
    try:
        about = json.loads(note.read_bytes())
        known = all(isinstance(out, str) for out in about["outs"])
        return about if isinstance(about, dict) and known else {}
    except (OSError, ValueError, RecursionError, LookupError, TypeError):
        return {}


def dvc_md5(path: Path) -> str:
    """Returns what stands in `dvc.lock` for a file, or for a folder."""
    if path.is_dir():
        files = sorted((f.relative_to(path).as_posix(), f) for f in path.rglob("*") if f.is_file())
        tree = [{"md5": dvc_md5(file), "relpath": name} for name, file in files]
        return _hash(json.dumps(tree, sort_keys=True).encode()).hexdigest() + ".dir"
    with path.open("rb") as file:
        return hashlib.file_digest(file, _hash).hexdigest()


_hash = functools.partial(hashlib.md5, usedforsecurity=False)
