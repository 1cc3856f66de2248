"""Finds what stands out in the training photographs."""

import json
from pathlib import Path
from typing import Annotated

import typer

from cssegcore.core.errors import InputError

from .common.cli import bar, run, say
from .common.params import read_params
from .common.processes import processes_wanted


def main(
    index: Annotated[Path, typer.Argument(help="The index of the dataset.")],
    out: Annotated[Path, typer.Argument(help="Folder for manifest.json and the maps.")],
    code: Annotated[
        Path | None, typer.Option(help="Table that says whether any image may be trained on.")
    ] = None,
) -> None:
    """Write a saliency map of each training photograph, if `method.base.unknown_class` reads it.

    Where steps list their images, that may be any.
    """
    from cssegcore.core.files import write_manifest
    from cssegcore.core.registry import build_part
    from cssegcore.data.dataset import open_dataset
    from cssegcore.method.unknown_class import Unknown

    params = read_params()
    recipe = params.method["base"]["unknown_class"]
    rule = build_part(
        "cssegcore.method.unknown_class", Unknown, recipe, "method.base.unknown_class"
    )
    if not rule.by_saliency:
        write_manifest(out, {"source": "none", "images": []})
        return

    from cssegcore.data.index import read_index
    from cssegcore.saliency.maps import write_maps

    entries, _ = read_index(index)
    every = code is not None and _may_be_any(code)
    names = [entry.name for entry in entries if every or "train" in entry.parts]
    dataset = open_dataset(params.dataset)
    progress, processes = bar("images", "saliency"), processes_wanted()
    said = write_maps(out, dataset, names, rule.maps, progress, processes)
    say(f"saliency: {said['source']} maps of {len(names)} images, {said['salient']:.1%} salient")


def _may_be_any(code: Path) -> bool:
    """Whether any image may be trained on, whatever its part of the dataset."""
    try:
        return "images" in json.loads(code.read_bytes())
    except (ValueError, TypeError, RecursionError):
        raise InputError(f"{code} is damaged: run `dvc repro -f check`.") from None


if __name__ == "__main__":
    run(main)
