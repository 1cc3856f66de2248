"""Holds the library against every reference file of one folder or more."""

from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from tests.conformance.checks import CHECKS
from tests.helpers.shared_data import VECTORS


def main(
    folders: Annotated[list[Path] | None, typer.Argument(metavar="[DIR]...")] = None,
) -> None:
    """Check every NAME.npz of each DIR, by default of both shared folders.

    A file without a check counts as failed.
    """
    files = [file for folder in folders or VECTORS for file in _files(folder)]
    passed = 0
    for file in files:
        holds, line = _check(file)
        passed += holds
        typer.echo(f"{file.stem:24s} {line}")
    failed = len(files) - passed
    typer.echo(f"{passed} passed, {failed} failed")
    raise typer.Exit(failed > 0)


def _files(folder: Path) -> list[Path]:
    files = sorted(folder.glob("*.npz"))
    if not files:
        raise typer.BadParameter(f"there is no .npz file in {folder}", param_hint="DIR")
    return files


def _check(file: Path) -> tuple[bool, str]:
    """Returns whether the library gives a file's numbers, and a line about it."""
    if file.stem not in CHECKS:
        return False, "no check yet"
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
