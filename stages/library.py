"""Says which cssegcore is installed: what a project's dvc.yaml depends on instead of code."""

import hashlib
from pathlib import Path
from typing import Annotated

import typer

from .common.cli import run, say
from .common.home import PACKAGES, version


def main(
    out: Annotated[Path, typer.Argument(help="The file to write (JSON).")],
) -> None:
    """Write the version of the installed cssegcore and a digest of its files.

    In a project of one's own the stage `check` depends on it, and so runs after each update.
    """
    from cssegcore.core.files import write_json

    whole = hashlib.sha256()
    for name, folder in sorted(PACKAGES.items()):
        for path in sorted(folder.rglob("*")):
            if path.is_file() and path.suffix != ".pyc":
                whole.update(f"{name}/{path.relative_to(folder).as_posix()}\n".encode())
                whole.update(hashlib.sha256(path.read_bytes()).digest())
    write_json(out, {"version": version(), "digest": whole.hexdigest()})
    say(f"cssegcore {version()}")


if __name__ == "__main__":
    run(main)
