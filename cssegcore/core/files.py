"""Files that are whole or absent, and digests of what is in them."""

import contextlib
import csv
import hashlib
import io
import json
import os
import pickle
import struct
import tempfile
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
"""What `torch.load` raises over a file that is cut off, damaged, or none of its own."""


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Gives a temporary path beside `path` that takes its name when the block ends well.

    Readers see the old file or the new one, never a part of it, also if the process is killed.

    Raises:
        InputError: The disk is full or the folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        os.close(handle)
    except OSError as error:
        raise unwritable(path, error) from None
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as error:
        raise unwritable(path, error) from None
    finally:
        temporary.unlink(missing_ok=True)


def unwritable(path: Path, error: OSError) -> InputError:
    """Says that `path` cannot be written, why, and what to do."""
    return InputError(
        f"cannot write {path}: {error.strerror or error}. Free space or make the folder writable,"
        " then run the same command again; finished work is kept."
    )


def write_text(path: Path, text: str) -> None:
    """Writes `text` as UTF-8 with LF line ends, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_bytes(text.encode())


def write_json(path: Path, value: object) -> None:
    """Writes JSON that is the same bytes for the same value."""
    write_text(path, json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n")


def write_table(path: Path, head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Writes CSV; None is an empty cell."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(head)
    table.writerows(rows)
    write_text(path, text.getvalue())


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
        numbers: How floating-point numbers are formatted.
    """
    columns = list(dict.fromkeys([*leading, *(key for row in rows for key in row)]))
    filled = ([row.get(column) for column in columns] for row in rows)
    cells = ([format(v, numbers) if isinstance(v, float) else v for v in row] for row in filled)
    write_table(path, columns, cells)


def read_manifest(folder: Path) -> dict[str, Any]:
    """Reads `manifest.json`, in which a stage says what else it wrote into its folder.

    Raises:
        InputError: It is missing or no JSON.
    """
    path = folder / "manifest.json"
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        raise InputError(f"{path} does not exist: run `dvc repro`.") from None
    except ValueError as error:
        raise InputError(f"{path} is not JSON ({error}): delete it and run `dvc repro`.") from None


def digest(*parts: bytes) -> str:
    """Returns the first 16 hex digits of the SHA-256 of `parts`, told apart by their lengths."""
    sha = hashlib.sha256()
    for part in parts:
        sha.update(len(part).to_bytes(8, "little"))
        sha.update(part)
    return sha.hexdigest()[:16]
