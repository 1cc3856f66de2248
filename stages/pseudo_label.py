"""Has the previous model label a step's photographs."""

from pathlib import Path
from typing import Annotated

import typer

from stages._cli import run
from stages._params import read_params


def main(
    out: Annotated[Path, typer.Argument(help="Folder for manifest.json and what it lists.")],
) -> None:
    """Label the step's photographs with the previous model, as `method.pseudo_labels` says."""
    from cssegcore.parts import make_part
    from cssegcore.pseudo_labels import PseudoLabels

    recipe = read_params().method["pseudo_labels"]
    make_part("cssegcore.pseudo_labels", PseudoLabels, recipe, "method.pseudo_labels").write(out)


if __name__ == "__main__":
    run(main)
