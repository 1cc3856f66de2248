"""Has the previous model label a step's photographs."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .common.cli import bar, run
from .common.params import read_params
from .common.processes import launch_distributed

if TYPE_CHECKING:
    from cssegcore.method.pseudo_labels import LabelRequest, PseudoLabels


def main(
    step: Annotated[str, typer.Argument(help="Name of the step in params.yaml, e.g. step1.")],
    images: Annotated[Path, typer.Option(help="The step's own list of images.")],
    memory: Annotated[Path, typer.Option(help="Folder of the step's exemplars.")],
    previous: Annotated[Path, typer.Option(help="The previous step's model.")],
    code: Annotated[Path, typer.Option(help="Table of the code behind this stage.")],
    out: Annotated[Path, typer.Option(help="Folder for manifest.json and the label images.")],
) -> None:
    """Label the step's photographs with the previous model, as `method.pseudo_labels` says."""
    from cssegcore.core.registry import build_part
    from cssegcore.data.dataset import open_dataset
    from cssegcore.data.image_list import ImageList
    from cssegcore.method.pseudo_labels import LabelRequest, PseudoLabels

    from .common.unchanged import check_code

    params = read_params()
    check_code(code)
    where = "method.pseudo_labels"
    rule = build_part(
        "cssegcore.method.pseudo_labels", PseudoLabels, params.method["pseudo_labels"], where
    )
    lists = {"train": ImageList.read(images)}
    if (kept := memory / "list.json").exists():
        lists["memory"] = ImageList.read(kept)
    lists = {k: dataclasses.replace(v, void=params.labels.void) for k, v in lists.items()}
    dataset, progress = open_dataset(params.dataset), bar("images", f"label {step}")
    request = LabelRequest(dataset, lists, previous, progress)
    if rule.scores is None:
        rule.write(out, request)
    else:
        _label(rule, out, request)


@launch_distributed
def _label(rule: "PseudoLabels", out: Path, request: "LabelRequest") -> None:
    from cssegcore.runtime.device import choose_device
    from cssegcore.runtime.distributed import process_group

    with process_group(choose_device()):
        rule.write(out, request)


if __name__ == "__main__":
    run(main)
