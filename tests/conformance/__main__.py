"""Holds the library against every reference file of one folder or more."""

from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from tests.conformance.checks import CHECKS, PENDING
from tests.helpers.shared_data import VECTORS


def main(
    folders: Annotated[list[Path] | None, typer.Argument(metavar="[DIR]...")] = None,
) -> None:
    """Check every NAME.npz of each DIR, by default of both shared folders.

    A file without a check counts as failed, unless its method is not there yet.
    """
    files = [file for folder in folders or VECTORS for file in _files(folder)]
    passed, failed = 0, 0
    for file in files:
        holds, line = _check(file)
        passed, failed = passed + (holds is True), failed + (holds is False)
        typer.echo(f"{file.stem:24s} {line}")
    pending = len(files) - passed - failed
    left = f", {pending} without a check yet" if pending else ""
    typer.echo(f"{passed} passed, {failed} failed{left}")
    raise typer.Exit(failed > 0)


def _files(folder: Path) -> list[Path]:
    files = sorted(folder.glob("*.npz"))
    if not files:
        raise typer.BadParameter(f"there is no .npz file in {folder}", param_hint="DIR")
    return files


def _check(file: Path) -> tuple[bool | None, str]:
    """Returns whether a file holds, None for one whose method is not there yet, and a line."""
    if file.stem not in CHECKS:
        return (None if file.stem in PENDING else False), "no check yet"
    try:
        with np.load(file, allow_pickle=False) as arrays:
            found = CHECKS[file.stem](dict(arrays))
    except Exception as error:  # noqa: BLE001 - whatever breaks, the other files are checked
        message = " ".join(str(error).split())  # PyTorch's has several lines, a file one
        return False, f"FAILED: {type(error).__name__}: {message}"
    left_out = f" ({found.left_out})" if found.left_out else ""
    return True, f"{found.cases} cases, largest error {found.error:.1e}{left_out}"


if __name__ == "__main__":
    typer.run(main)
