"""Checks every parameter before anything runs, and writes down which code each stage depends on."""

from pathlib import Path
from typing import Annotated

import typer

from stages._cli import run, say
from stages._params import Params, read_params

STAGES = ("index", "split", "pseudo_label", "memory", "synthesize", "evaluate", "report")


def main(
    out: Annotated[Path, typer.Argument(help="Folder for the code tables, one a stage.")],
    nothing: Annotated[Path, typer.Argument(help="Folder for what precedes the first step.")],
    first: Annotated[Path, typer.Argument(help="Folder of the first step.")],
) -> None:
    """Check params.yaml as a whole: keys, classes, paths, the recipe and the network.

    Writes the digests of the code behind each stage, and the empty model, pseudo-labels, memory,
    synthesis and evaluation that stand before the first step.
    """
    from cssegcore.data.dataset import open_dataset

    params = read_params()
    params.check_chain()
    params.scenario_of(open_dataset(params.dataset).classes)
    tables = _check_parts(params)
    _write(out, nothing, first, tables)
    steps = ", ".join(f"{n}: {len(c)} classes" for n, c in params.scenario.classes.items())
    say(f"{params.method['name']} on {params.scenario.name} ({params.scenario.setting}): {steps}")


def _check_parts(params: Params) -> dict[str, dict[str, str]]:
    """Builds every part once, has the network's weights looked for, and returns the code tables."""
    from cssegcore.checkpoint import NETWORKS
    from cssegcore.data.augmentation import Augmentation
    from cssegcore.data.dataset import LAYOUTS
    from cssegcore.engine import Optimizer
    from cssegcore.job import VIEWS
    from cssegcore.method import SLOTS, Method, Recipe, base_modules, recipe_modules
    from cssegcore.networks import Architecture
    from cssegcore.parts import make_part, part_module
    from cssegcore.pseudo_labels import PseudoLabels
    from cssegcore.replay import Replay
    from cssegcore.strict import build
    from stages._code import closure

    recipe = Recipe.of(params.method)
    Method.of_base(recipe.base)
    Method.of(recipe)
    make_part(SLOTS["pseudo_labels"], PseudoLabels, recipe.pseudo_labels, "method.pseudo_labels")
    make_part(SLOTS["replay"], Replay, recipe.replay, "method.replay")
    build(Optimizer, params.optimizer, "optimizer")
    make_part(VIEWS, Augmentation, params.augmentation, "augmentation")
    make_part(NETWORKS, Architecture, params.model, "model").check()

    layout = part_module(LAYOUTS, params.dataset["layout"], "dataset.layout")
    shared = [part_module(NETWORKS, params.model, "model"), layout]
    trained = ["stages.train", part_module(VIEWS, params.augmentation, "augmentation"), *shared]
    extra = {
        "index": [layout],
        "evaluate": shared,
        "pseudo_label": [part_module(SLOTS["pseudo_labels"], recipe.pseudo_labels, "")],
        "memory": [part_module(SLOTS["replay"], recipe.replay, "")],
        "synthesize": [part_module(SLOTS["replay"], recipe.replay, "")],
    }
    tables = {name: closure([f"stages.{name}", *extra.get(name, [])]) for name in STAGES}
    tables["method.base"] = closure([*trained, *base_modules(recipe.base)])
    tables["method"] = closure([*trained, *recipe_modules(recipe)])
    return tables


def _write(out: Path, nothing: Path, first: Path, tables: dict[str, dict[str, str]]) -> None:
    from cssegcore.files import write_json, write_text

    for name, table in tables.items():
        write_json(out / f"{name}.json", table)
    write_text(nothing / "model.safetensors", "none\n")
    write_json(nothing / "evaluation" / "manifest.json", {"panels": []})
    for kind in ("pseudo_labels", "memory", "synthesis"):
        write_json(first / kind / "manifest.json", {"images": []})


if __name__ == "__main__":
    run(main)
