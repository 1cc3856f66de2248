"""Opens every image of the dataset once and writes down what it holds."""

from pathlib import Path
from typing import Annotated

import typer

from .common.cli import bar, run, say
from .common.params import read_params


def main(
    out: Annotated[Path, typer.Argument(help="The table to write (CSV, one row an image).")],
) -> None:
    """Check every photograph against its label image; count the pixels of each class."""
    from cssegcore.data.dataset import open_dataset
    from cssegcore.data.index import build_index, write_index

    dataset = open_dataset(read_params().dataset)
    entries = build_index(dataset, bar("images", "index"))
    write_index(out, entries, dataset.classes)
    say(f"{dataset.name}: {len(entries)} images, {len(dataset.classes) - 1} classes")


if __name__ == "__main__":
    run(main)
