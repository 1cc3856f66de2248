"""Writes a step's model as a file that runs without this library."""

import re
from pathlib import Path
from typing import Annotated

import typer

from cssegcore.core.errors import InputError

from .common.cli import run, say
from .common.photographs import find_photographs

LOOKED_AT = 4
"""Photographs that a file is held against its model on."""

PACKAGED = ".mlflow"
"""How the name of an MLflow model's folder ends."""


def main(
    model: Annotated[Path, typer.Argument(help="A step's model: work/STEP/model.safetensors.")],
    *,
    photographs: Annotated[
        list[Path] | None,
        typer.Argument(help="Photographs, or folders of them, to check the file on."),
    ] = None,
    out: Annotated[Path, typer.Option(help="NAME.onnx, NAME.pt2, or a folder NAME.mlflow.")],
    size: Annotated[
        str | None,
        typer.Option(help="WIDTHxHEIGHT of all photographs, for a file that reads no others."),
    ] = None,
) -> None:
    """Write the model as ONNX, as a program of torch.export, or as an MLflow model to be served.

    The file reads uint8 RGB photographs (batch, height, width, 3) of any size, and gives labels,
    confidences and the scores of all classes, as `predict` does. Names and colours of the classes
    are in its metadata. It is put in its place when it has said of a few of the photographs what
    the model says. An MLflow model is the model itself, and takes no photographs.
    """
    from cssegcore.data import images
    from cssegcore.export.write import check_replaceable, export_model, exported_kind

    if out.suffix == PACKAGED:
        _package(model, out)
        return
    exported_kind(out)
    check_replaceable(out)
    fixed = _size(size)
    paths = find_photographs(photographs or [])
    paths = paths[:: -(-len(paths) // LOOKED_AT)]
    formats = images.MORE_FORMATS
    pixels = [images.photograph(images.read(p, "photograph"), p, formats, turn=True) for p in paths]

    import torch

    from cssegcore.models import checkpoint

    loaded = checkpoint.load_model(model, torch.device("cpu"))
    agreed = export_model(loaded, out, pixels, fixed, say)
    if agreed.size:
        takes = f"photographs of {agreed.size[1]}x{agreed.size[0]} pixels"
    else:
        takes = f"photographs from {agreed.smallest[1]}x{agreed.smallest[0]} pixels on"
    ties = f", {agreed.ties} of them ties that rounding decides" if agreed.ties else ""
    say(
        f"{out}: {takes}; labels of {agreed.pixels} pixels in {len(paths)} photographs are the"
        f" model's{ties}, scores differ by {agreed.error:.1g} at most"
    )


def _package(model: Path, out: Path) -> None:
    """Makes an MLflow model."""
    from .serving.package import package_model

    if odd := set("#%?").intersection(str(out.absolute())):
        raise InputError(
            f"MLflow serves nothing from {out.absolute()}: it takes {min(odd)} for a part of an"
            " address. Name another folder."
        )
    if out.exists():
        raise InputError(f"{out} is there already: name another folder.")
    import torch

    from cssegcore.models import checkpoint

    checkpoint.load_model(model, torch.device("cpu"))  # holds it against its digest
    package_model(model, out)
    say(f"{out}: mlflow models serve -m {out} --env-manager local")


def _size(given: str | None) -> tuple[int, int] | None:
    """Returns height and width."""
    if given is None:
        return None
    if not (found := re.fullmatch(r"([1-9]\d{0,4})x([1-9]\d{0,4})", given)):
        raise InputError(f"--size is {given!r}: give WIDTHxHEIGHT in pixels, such as 640x480.")
    return int(found[2]), int(found[1])


if __name__ == "__main__":
    run(main)
