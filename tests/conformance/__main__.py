"""Holds the library against every reference file of a folder."""

from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from tests.conformance.checks import CHECKS
from tests.helpers.shared_data import SHARED


def main(
    folder: Annotated[Path, typer.Argument(metavar="DIR")] = SHARED / "conformance",
) -> None:
    """Check every NAME.npz of DIR; a file without a check counts as failed."""
    files = sorted(folder.glob("*.npz"))
    if not files:
        raise typer.BadParameter(f"there is no .npz file in {folder}", param_hint="DIR")
    passed = 0
    for file in files:
        holds, line = _check(file)
        passed += holds
        typer.echo(f"{file.stem:24s} {line}")
    typer.echo(f"{passed} passed, {len(files) - passed} failed")
    raise typer.Exit(passed < len(files))


def _check(file: Path) -> tuple[bool, str]:
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
