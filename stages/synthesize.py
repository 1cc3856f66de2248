"""Makes images of earlier classes out of the previous model."""

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .common.cli import bar, run, say
from .common.once import alone, keep
from .common.params import read_params
from .common.places import resume_path
from .common.processes import launch_distributed

if TYPE_CHECKING:
    from cssegcore.method.replay import Replay, SynthesisRequest

DAY = 86400
"""Seconds."""


def main(
    step: Annotated[str, typer.Argument(help="Name of the step in params.yaml, e.g. step1.")],
    images: Annotated[Path, typer.Option(help="The list of images that the step trains on.")],
    previous: Annotated[Path, typer.Option(help="The previous step's model.")],
    previous_synthesis: Annotated[Path, typer.Option(help="The previous step's folder of images.")],
    code: Annotated[Path, typer.Option(help="Table of the code and numbers behind this stage.")],
    out: Annotated[Path, typer.Option(help="Folder for manifest.json and what it lists.")],
) -> None:
    """Make images of the classes that the previous model knows, as `method.replay` says.

    Killed and started again, it goes on from its last finished batch. If another process makes the
    same, it waits and takes that result.
    """
    from cssegcore.core.registry import build_part
    from cssegcore.data.dataset import open_dataset
    from cssegcore.data.image_list import ImageList
    from cssegcore.method.replay import Replay, SynthesisRequest

    from .common.unchanged import check_code

    params = read_params()
    recipe = params.method["replay"]
    way = build_part("cssegcore.method.replay", Replay, recipe, "method.replay")
    check_code(code, way.stage_parameters(recipe))

    @functools.cache
    def state() -> Path:
        sections = [params.augmentation, params.seed]
        inputs = [images, previous, previous_synthesis, code]
        return resume_path(f"{step}-synthesis", sections, inputs)

    request = SynthesisRequest(
        dataset=open_dataset(params.dataset),
        current=ImageList.read(images),
        augmentation=params.augmentation,
        previous_synthesis=previous_synthesis,
        model=previous,
        seed=params.seed,
        resume=state,
        progress=bar("iterations", f"invert for {step}"),
        tell=say,
    )
    if not way.generates:
        way.synthesize(out, request)
        return
    with alone(state(), say):
        _synthesize(way, out, request, state())


@launch_distributed
def _synthesize(way: "Replay", out: Path, request: "SynthesisRequest", state: Path) -> None:
    from cssegcore.runtime.device import choose_device
    from cssegcore.runtime.distributed import process_group

    # a batch takes as long as it takes, and so long the other processes wait for it
    with process_group(choose_device(), patience=DAY) as world:
        way.synthesize(out, request)
        if world.is_main:
            keep(state, [out])


if __name__ == "__main__":
    run(main)
