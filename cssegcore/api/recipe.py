"""Sections of the parameters that a notebook may leave out or shorten."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Final

from cssegcore.core.errors import InputError
from cssegcore.core.registry import build_part
from cssegcore.method.assembled import AssembledRecipe
from cssegcore.method.compatibility import check_recipe
from cssegcore.method.method import LEARNED, SLOTS, Method, Recipe
from cssegcore.method.pseudo_labels import PseudoLabels

NONE: Final = {"part": "none"}

MODEL: Final = {"part": "small", "backbone": {"part": "small"}}
"""The network of conf/model/small.yaml."""

OPTIMIZER: Final = {
    "part": "sgd",
    "batch_size": 8,
    "momentum": 0.9,
    "weight_decay": 1e-4,
    "power": 0.9,
    "clip": 0,
    "amp": True,
}
"""The optimizer of conf/optimizer/sgd.yaml."""


def whole_recipe(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Adds the defaults of conf/config.yaml to a recipe of conf/method."""
    base = {"losses": {}, "statistics": {}, "head": {"part": "linear"}, "unknown_class": NONE}
    base |= {"background": dict(LEARNED)}
    given = {"base": {"losses": {"ce": {"part": "ce"}}}, **recipe}
    if isinstance(given["base"], Mapping):
        base |= given["base"]
        given["base"] = base
    usual = dict.fromkeys((f.name for f in dataclasses.fields(Recipe)), NONE) | {
        "name": "recipe",
        "images": "train",
        "start": "previous",
        "losses": {},
        "statistics": base["statistics"],
    }
    return usual | given


def check(section: Mapping[str, Any]) -> AssembledRecipe:
    """Builds every part of a recipe and refuses parts that do not go together.

    Raises:
        InputError: A key, part or number is refused, or parts do not go together; or the recipe
            makes images, which takes the pipeline.
    """
    recipe = Recipe.of(section)
    rule = build_part(
        SLOTS["pseudo_labels"], PseudoLabels, recipe.pseudo_labels, "method.pseudo_labels"
    )
    assembled = AssembledRecipe(recipe, Method.of_base(recipe.base), Method.of(recipe), rule)
    check_recipe(assembled)
    if assembled.increment.replay.generates:
        raise InputError(
            f"`method.replay: {recipe.replay['part']}` makes images and hands them on from step to"
            " step, which the pipeline's stage `synthesize` does: run it there, or set"
            " `method.replay` to none."
        )
    return assembled
