"""Finds what stands out in the training photographs."""

import json
from pathlib import Path
from typing import Annotated

import typer

from stages.common.cli import bar, run, say
from stages.common.params import read_params


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
    from cssegcore.core.files import write_json
    from cssegcore.core.registry import build_part
    from cssegcore.data.dataset import open_dataset
    from cssegcore.method.unknown_class import Unknown

    params = read_params()
    recipe = params.method["base"]["unknown_class"]
    rule = build_part(
        "cssegcore.method.unknown_class", Unknown, recipe, "method.base.unknown_class"
    )
    if not rule.by_saliency:
        write_json(out / "manifest.json", {"source": "none", "images": []})
        return

    from cssegcore.data.index import read_index
    from cssegcore.saliency.maps import write_maps

    entries, _ = read_index(index)
    every = code is not None and "images" in json.loads(code.read_bytes())
    names = [entry.name for entry in entries if every or "train" in entry.parts]
    dataset = open_dataset(params.dataset)
    said = write_maps(out, dataset, names, rule.maps, bar("images", "saliency"))
    say(f"saliency: {said['source']} maps of {len(names)} images, {said['salient']:.1%} salient")


if __name__ == "__main__":
    run(main)
