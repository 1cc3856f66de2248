"""Chooses the exemplars of a step."""

from pathlib import Path
from typing import Annotated

import typer

from .common.cli import bar, run
from .common.params import read_params


def main(
    step: Annotated[str, typer.Argument(help="Name of the step in params.yaml, e.g. step1.")],
    images: Annotated[Path, typer.Option(help="The list of images that the step trains on.")],
    previous_images: Annotated[Path, typer.Option(help="The previous step's list of images.")],
    previous_memory: Annotated[Path, typer.Option(help="Folder of the previous step's exemplars.")],
    previous: Annotated[Path, typer.Option(help="The previous step's model.")],
    code: Annotated[Path, typer.Option(help="Table of the code and numbers behind this stage.")],
    out: Annotated[Path, typer.Option(help="Folder for manifest.json and what it lists.")],
) -> None:
    """Choose the training images of earlier steps to see again, as `method.replay` says."""
    from cssegcore.core.registry import build_part
    from cssegcore.data.dataset import open_dataset
    from cssegcore.data.image_list import ImageList
    from cssegcore.method.replay import ExemplarRequest, Replay

    from .common.unchanged import check_code

    params = read_params()
    recipe = params.method["replay"]
    way = build_part("cssegcore.method.replay", Replay, recipe, "method.replay")
    check_code(code, way.stage_parameters(recipe))
    exemplars = previous_memory / "list.json"
    request = ExemplarRequest(
        dataset=open_dataset(params.dataset),
        current=ImageList.read(images),
        previous_images=ImageList.read(previous_images),
        previous_memory=ImageList.read(exemplars) if exemplars.exists() else None,
        model=previous,
        seed=params.seed,
        progress=bar("images", f"exemplars {step}"),
    )
    way.select_exemplars(out, request)


if __name__ == "__main__":
    run(main)
