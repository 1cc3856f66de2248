"""Makes the embedded dataset; `data/` holds what the defaults make."""

from pathlib import Path
from typing import Annotated

import typer

from .common.cli import run, say


def main(
    out: Annotated[Path, typer.Argument(help="Folder to make; must be empty or not yet there.")],
    seed: Annotated[int, typer.Option(help="Another seed makes other images.")] = 0,
    train: Annotated[int, typer.Option(help="Number of training images.")] = 600,
    val: Annotated[int, typer.Option(help="Number of validation images.")] = 150,
) -> None:
    """Draw scenes of eight kinds of objects, with labels, in Pascal VOC's layout."""
    from cssegcore.data.shapes import make_dataset

    make_dataset(out, seed=seed, train=train, val=val)
    say(f"{out}: {train} training and {val} validation images")


if __name__ == "__main__":
    run(main)
