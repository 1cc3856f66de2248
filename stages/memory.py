"""Chooses the exemplars of a step."""

from pathlib import Path
from typing import Annotated

import typer

from stages.common.cli import bar, run
from stages.common.params import read_params


def main(
    step: Annotated[str, typer.Argument(help="Name of the step in params.yaml, e.g. step1.")],
    images: Annotated[Path, typer.Option(help="The list of images that the step trains on.")],
    finished: Annotated[Path, typer.Option(help="The list of images of the step before.")],
    kept: Annotated[Path, typer.Option(help="Folder of the exemplars of the step before.")],
    previous: Annotated[Path, typer.Option(help="The model of the step before.")],
    out: Annotated[Path, typer.Option(help="Folder for manifest.json and what it lists.")],
) -> None:
    """Choose the training images of earlier steps to see again, as `method.replay` says."""
    from cssegcore.core.registry import build_part
    from cssegcore.data.dataset import open_dataset
    from cssegcore.data.image_list import ImageList
    from cssegcore.method.replay import ExemplarRequest, Replay

    params = read_params()
    way = build_part("cssegcore.method.replay", Replay, params.method["replay"], "method.replay")
    task = ExemplarRequest(
        dataset=open_dataset(params.dataset),
        current=ImageList.read(images),
        finished=ImageList.read(finished),
        kept=ImageList.read(kept / "list.json") if (kept / "list.json").exists() else None,
        model=previous,
        seed=params.seed,
        progress=bar("images", f"exemplars {step}"),
    )
    way.select_exemplars(out, task)


if __name__ == "__main__":
    run(main)
