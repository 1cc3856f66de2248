"""Makes images of earlier classes out of the previous model."""

from pathlib import Path
from typing import Annotated

import typer

from stages._cli import run
from stages._params import read_params


def main(
    out: Annotated[Path, typer.Argument(help="Folder for manifest.json and what it lists.")],
) -> None:
    """Make images of the classes that the previous model knows, as `method.replay` says."""
    from cssegcore.parts import make_part
    from cssegcore.replay import Replay

    recipe = read_params().method["replay"]
    make_part("cssegcore.replay", Replay, recipe, "method.replay").synthesize(out)


if __name__ == "__main__":
    run(main)
