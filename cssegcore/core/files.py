"""Files that are whole or absent, and digests of their content."""

import contextlib
import csv
import errno
import fcntl
import functools
import hashlib
import io
import itertools
import json
import os
import pickle
import shutil
import stat
import struct
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cssegcore.core.errors import InputError

UNREADABLE = (
    RuntimeError,
    EOFError,
    OSError,
    LookupError,
    ValueError,
    pickle.UnpicklingError,
    struct.error,
)
"""Errors of `torch.load` for a file that is cut off, damaged, or none of its own."""


TEMPORARY = ".cssegcore-"
"""Prefix of the names of temporary files."""

ABANDONED = 60
"""Seconds after which a temporary file that no process holds is one that a process left."""


@contextlib.contextmanager
def replacing(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """Gives a temporary path beside `path` that takes its name when the block ends well.

    Readers see the old file or the new one, never a part of it, also if the process is killed or
    the power fails.

    Args:
        path: File to replace.
        durable: Waits until the disk has the content, then until it has the name. A stage that
            writes an image of its own for every photograph need not: these waits would take longer
            than the writing, and an image that a power failure cut off is found when it is read.

    Raises:
        InputError: The disk is full or the folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _clear(path.parent.resolve())
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=TEMPORARY)
    except OSError as error:
        raise unwritable(path, error) from None
    temporary = Path(name)
    try:
        with contextlib.suppress(OSError):  # some file systems have no locks
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)  # until this process is gone
        yield temporary
        temporary.chmod(0o644)
        if durable:
            os.fsync(handle)
        temporary.replace(path)
        if durable:
            _sync(path.parent)
    except OSError as error:
        raise unwritable(path, error) from None
    finally:
        os.close(handle)
        temporary.unlink(missing_ok=True)


def _sync(folder: Path) -> None:
    """Has the disk write down a folder's names, where its file system knows how."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@functools.cache
def _clear(folder: Path) -> None:
    """Removes temporary files of killed processes in a folder; looks once in a process.

    A temporary file of a living process is locked, or so new that it is about to be.
    """
    for path in folder.glob(f"{TEMPORARY}*"):
        with contextlib.suppress(OSError), path.open("rb") as file:
            if time.time() - os.fstat(file.fileno()).st_mtime > ABANDONED:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()


def unwritable(path: Path, error: OSError) -> InputError:
    """Returns the error that `path` cannot be written, with reason and advice."""
    way_out = "Free space or make the folder writable"
    if error.errno in (errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ELOOP):
        way_out = "Something else stands where a folder or this file goes: move it away"
    return InputError(
        f"cannot write {path}: {error.strerror or error}. {way_out}, then run the same command"
        " again; finished work is kept."
    )


def copy_content(source: Path, target: Path) -> None:
    """Copies a file, or all that is in a folder into one that may be there already.

    Modes are not copied: files linked to DVC's cache are read-only.

    Raises:
        InputError: There is no `source`, the disk is full, or `target` cannot be written.
    """
    if not source.exists():
        raise InputError(f"{source} does not exist: run `dvc repro`.")
    try:
        if source.is_dir():
            copy = shutil.copyfile  # `copy2` would put a file into a folder of its name
            shutil.copytree(source, target, dirs_exist_ok=True, copy_function=copy)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
    except shutil.Error as error:  # of copytree: what failed, file by file
        raise unwritable(target, OSError(error.args[0][0][2])) from None
    except OSError as error:
        raise unwritable(target, error) from None


def write_text(path: Path, text: str) -> None:
    """Writes `text` as UTF-8 with LF line ends, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_bytes(text.encode())


def write_json(path: Path, value: object) -> None:
    """Writes JSON that is the same bytes for the same value."""
    write_text(path, json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n")


def write_table(path: Path, head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Writes CSV; None is an empty cell."""
    write_text(path, _csv(itertools.chain([head], rows)))


def write_csv(
    path: Path,
    rows: Sequence[Mapping[str, object]],
    leading: Sequence[str] = (),
    *,
    numbers: str = ".6g",
) -> None:
    """Writes rows as CSV.

    Args:
        path: The file.
        rows: One mapping of column to value a row; a cell whose row has no value is empty.
        leading: Columns that are there in any case and come first; others follow as they appear.
        numbers: Format of floating-point numbers.
    """
    columns = list(dict.fromkeys([*leading, *(key for row in rows for key in row)]))
    write_table(path, columns, _cells(rows, columns, numbers))


def append_csv(path: Path, rows: Sequence[Mapping[str, object]], *, numbers: str = ".6g") -> None:
    """Appends rows, whose columns are all the file's in its order, to a CSV file.

    A process that is killed may leave the file cut off: another one must say that it is whole.

    Args:
        path: The file.
        rows: One mapping of column to value a row, each with the columns of the first.
        numbers: Format of floating-point numbers.

    Raises:
        InputError: The disk is full or the file cannot be written.
    """
    text = _csv(_cells(rows, list(rows[0]), numbers))
    try:
        with path.open("ab") as file:
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise unwritable(path, error) from None


def _cells(
    rows: Iterable[Mapping[str, object]], columns: Sequence[str], numbers: str
) -> Iterator[list[object]]:
    for row in rows:
        values = (row.get(column) for column in columns)
        yield [format(v, numbers) if isinstance(v, float) else v for v in values]


def _csv(rows: Iterable[Sequence[object]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def read_text(path: Path) -> str:
    """Reads UTF-8, with or without a byte order mark, of any line ends, which become LF.

    Raises:
        OSError: It cannot be read, or is no file: a pipe would never end.
        UnicodeDecodeError: It is no UTF-8.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(errno.EINVAL, "it is no regular file", str(path))
    return path.read_text(encoding="utf-8-sig")


SEAL = "digest"
"""The key under which a file of JSON holds a digest of all else in it."""


def sealed(value: Mapping[str, object]) -> dict[str, object]:
    """Adds a digest of a mapping's content, so that `unsealed` finds a flipped bit."""
    return {**value, SEAL: _seal(value)}


def unsealed(content: object, path: Path, way_out: str) -> object:
    """Removes the digest from content of JSON, and compares it with the rest.

    Content without a digest (written by hand, say) is returned as it is.

    Args:
        content: Result of `json.loads`.
        path: Path of the file, named in the error.
        way_out: Advice in the error.

    Raises:
        InputError: The content is not what was written.
    """
    if not isinstance(content, dict):
        return content
    rest = {key: value for key, value in content.items() if key != SEAL}
    whole = content[SEAL] == _seal(rest) if SEAL in content else not _is_misnamed(content)
    if not whole:
        raise InputError(f"{path} is damaged, it is not what was written: {way_out}.")
    return rest


def _is_misnamed(content: Mapping[str, object]) -> bool:
    """Whether a digest of all else stands under another key: a bit of its name flipped."""
    short = [key for key, value in content.items() if isinstance(value, str) and len(value) == 16]
    return any(
        content[name] == _seal({key: content[key] for key in content if key != name})
        for name in short
    )


def _seal(value: Mapping[str, object]) -> str:
    plain = json.loads(json.dumps(value))  # as it will be read: keys are texts, tuples lists
    return digest(json.dumps(plain, sort_keys=True).encode())


def write_manifest(folder: Path, manifest: Mapping[str, object]) -> None:
    """Writes `manifest.json`, which describes the other files of a stage's folder."""
    write_json(folder / "manifest.json", sealed(manifest))


def read_manifest(folder: Path, *needed: str) -> dict[str, Any]:
    """Reads `manifest.json`.

    Args:
        folder: The stage's folder.
        needed: Keys that it must have.

    Raises:
        InputError: It is missing, damaged, no JSON, or lacks a key.
    """
    path = folder / "manifest.json"
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise InputError(f"{path} does not exist: run `dvc repro`.") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not JSON ({error}): delete it and run `dvc repro`.") from None
    manifest = unsealed(content, path, "delete it and run `dvc repro`")
    if not isinstance(manifest, dict) or not manifest.keys() >= {*needed}:
        raise InputError(
            f"{path} must be a mapping{' with the keys ' * bool(needed)}{', '.join(needed)}: delete"
            " it and run `dvc repro`."
        )
    return manifest


def digest(*parts: bytes) -> str:
    """Returns the first 16 hex digits of the SHA-256 of `parts` with their lengths."""
    sha = hashlib.sha256()
    for part in parts:
        sha.update(len(part).to_bytes(8, "little"))
        sha.update(part)
    return sha.hexdigest()[:16]
