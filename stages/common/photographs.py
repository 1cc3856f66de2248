"""Photographs, and videos, as a command is given them: files, folders, names on standard input."""

import itertools
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from cssegcore.core.errors import InputError

from .cli import warn

PHOTOGRAPHS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
VIDEOS = (".mp4", ".mov", ".mkv", ".avi", ".webm", ".m4v")
STDIN = Path("-")


def find_photographs(
    given: Sequence[Path], endings: tuple[str, ...] = PHOTOGRAPHS, out: Path | None = None
) -> list[Path]:
    """Returns the files that a command is to read; warns of folders that it leaves out.

    Args:
        given: Files, folders (of which what is directly inside), or `-`: names on standard input,
            one a line.
        endings: Endings of the files in folders.
        out: The folder of the results, which is no folder of photographs.

    Raises:
        InputError: Something is not there, a folder holds none, or two have one name.
    """
    paths: list[Path] = []
    for path in itertools.chain.from_iterable(_lines() if p == STDIN else [p] for p in given):
        if path.is_dir():
            inside = _inside(path, endings)
            below = [p for p in sorted(path.iterdir()) if p.is_dir() and not _same(p, out)]
            below = [str(p) for p in below if not p.name.startswith(".") and _inside(p, endings)]
            others = f" Name the folders below as well: {', '.join(below)}." if below else ""
            if not inside:
                known = ", ".join(endings)
                raise InputError(f"the folder {path} holds no photograph ({known}).{others}")
            if below:
                warn(f"only photographs directly in {path} are read.{others}")
            paths += inside
        elif path.is_file():
            paths.append(path)
        else:
            raise InputError(f"there is no photograph or folder {path}: check the path.")
    if not paths:
        from_stdin = "on standard input, a path a line" if STDIN in given else "on the command line"
        raise InputError(f"no photograph is named: name some {from_stdin}.")
    stems = [p.stem for p in paths]
    if len(set(stems)) < len(stems):
        twice = next(s for s in stems if stems.count(s) > 1)
        raise InputError(f"two photographs are called {twice!r}: label them into two folders.")
    return paths


def _inside(folder: Path, endings: tuple[str, ...]) -> list[Path]:
    return sorted(path for path in folder.iterdir() if is_one_of(path, endings))


def _same(folder: Path, out: Path | None) -> bool:
    return out is not None and folder.resolve() == out.resolve()


def is_one_of(path: Path, endings: tuple[str, ...]) -> bool:
    """Whether a file's name has an ending; not if a dot stands in front of it.

    Such names are the system's: macOS writes `._NAME.jpg` beside NAME.jpg.
    """
    return path.suffix.lower() in endings and not path.name.startswith(".")


def _lines() -> Iterable[Path]:
    return [Path(line.rstrip("\r\n")) for line in sys.stdin if line.strip()]
