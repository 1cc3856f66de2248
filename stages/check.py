"""Checks every parameter before anything runs, and writes down which code each stage depends on."""

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cssegcore.core.errors import InputError
from cssegcore.core.types import IGNORE

from .common.batch_sizes import check_places, smallest_batches
from .common.choice import check_after, check_validation
from .common.cli import run, say, warn
from .common.home import PACKAGE
from .common.noted_weights import note_weights
from .common.params import Params, raw_as_read, read_params

if TYPE_CHECKING:
    from cssegcore.data.dataset import Dataset
    from cssegcore.method.assembled import AssembledRecipe
    from cssegcore.models._base import Architecture

STAGES = (
    "index",
    "split",
    "saliency",
    "pseudo_label",
    "memory",
    "synthesize",
    "evaluate",
    "report",
)


def main(
    out: Annotated[Path, typer.Argument(help="Folder for the code tables, one a stage.")],
    nothing: Annotated[Path, typer.Argument(help="Folder for what precedes the first step.")],
    first: Annotated[Path, typer.Argument(help="Folder of the first step.")],
    name: Annotated[Path, typer.Option(help="What the run is called (JSON), to be told.")],
) -> None:
    """Check params.yaml as a whole: keys, classes, paths, the recipe and the network.

    Writes the digests of the code behind each stage, and the empty model, pseudo-labels, memory,
    synthesis and evaluation that stand before the first step.
    """
    from cssegcore.data.dataset import open_dataset

    params = read_params()
    params.check_chain()
    dataset = open_dataset(params.dataset)
    params.scenario_of(dataset.classes)
    _check_lists(params, dataset)
    check_validation(params, dataset)
    tables = _check_parts(params, dataset)
    _note_scenario(params, tables)
    _write(out, nothing, first, tables)
    called = _note_name(name)
    steps = ", ".join(f"{n}: {len(c)} classes" for n, c in params.scenario.classes.items())
    say(f"{called} on {params.scenario.name} ({params.scenario.setting}): {steps}")


def _note_name(path: Path) -> str:
    """Writes and returns what the run is called, by what differs from conf/."""
    from cssegcore.core.files import write_json

    from .common.naming import name_run

    name = name_run(raw_as_read())
    write_json(path, {"label": name.label, "changed": name.differences})
    return name.label


def _check_parts(params: Params, dataset: "Dataset") -> dict[str, dict[str, str]]:
    """Builds every part once, has the network's weights looked for, and returns the code tables."""
    from cssegcore.core.registry import build_part, part_module
    from cssegcore.data.augmentation import augmentation_modules
    from cssegcore.data.dataset import LAYOUTS
    from cssegcore.method.assembled import AssembledRecipe
    from cssegcore.method.compatibility import check_recipe
    from cssegcore.method.method import SLOTS, Method, Recipe, base_modules, recipe_modules
    from cssegcore.method.pseudo_labels import PseudoLabels
    from cssegcore.models.backbones import backbone_module
    from cssegcore.models.checkpoint import NETWORKS
    from cssegcore.training.optimizer import OPTIMIZERS, build_optimizer

    from .common.code import closure

    recipe = Recipe.of(params.method)
    where = "method.pseudo_labels"
    rule = build_part(SLOTS["pseudo_labels"], PseudoLabels, recipe.pseudo_labels, where)
    assembled = AssembledRecipe(recipe, Method.of_base(recipe.base), Method.of(recipe), rule)
    check_recipe(assembled)
    check_after(params, assembled)
    optimizer = build_optimizer(params.optimizer)
    _check_room(params, assembled, dataset)
    architecture = _checked_network(params, assembled, dataset)

    layout = part_module(LAYOUTS, params.dataset["layout"], "dataset.layout")
    network = part_module(NETWORKS, params.model, "model")
    head = part_module(SLOTS["head"], recipe.base.head, "method.base.head")
    pseudo_labels = part_module(SLOTS["pseudo_labels"], recipe.pseudo_labels, where)
    replay = part_module(SLOTS["replay"], recipe.replay, "method.replay")
    unknown = part_module(
        SLOTS["unknown_class"], recipe.base.unknown_class, "method.base.unknown_class"
    )
    views = augmentation_modules(params.augmentation)
    backbone = backbone_module(architecture.backbone)
    model = [network, backbone, head, layout]  # to load a model and run it on a dataset
    extra = {
        "index": [layout],
        "saliency": [layout, unknown],
        "evaluate": [*model, *_metrics(params)],
        "pseudo_label": [pseudo_labels, *model],
        "memory": [replay, *model],
        "synthesize": [replay, *model],
        "split": [layout] if params.scenario.lists else [],
    }
    if not rule.scores:
        extra["pseudo_label"] = [pseudo_labels, layout]
    if not assembled.increment.replay.selects_exemplars:
        extra["memory"] = [replay, layout]
    if not assembled.increment.replay.generates:
        extra["synthesize"] = [replay, layout]
    else:
        extra["synthesize"] += views
    tables = {name: closure([f"{PACKAGE}.{name}", *extra.get(name, [])]) for name in STAGES}
    stage_parameters = assembled.increment.replay.stage_parameters(recipe.replay)
    for stage in ("memory", "synthesize"):  # what only a training reads does not run them again
        tables[stage]["method.replay"] = json.dumps(stage_parameters, sort_keys=True)
    tables["split"]["images"] = smallest_batches(params, assembled, architecture, optimizer)
    updater = part_module(OPTIMIZERS, params.optimizer, "optimizer")
    training = [f"{PACKAGE}.train", *views, updater, *model]
    tables["method.base"] = closure([*training, *base_modules(recipe.base)])
    tables["method"] = closure([*training, *recipe_modules(recipe)])
    again = ["method"] * assembled.increment.from_scratch
    note_weights(tables, architecture.backbone_kind(), "method.base", *again)
    return tables


def _check_lists(params: Params, dataset: "Dataset") -> None:
    """Reads the lists of steps that name their images, which `split` does after the index.

    Raises:
        InputError: One cannot be read, or two share an image that is trained and tested on.
    """
    from cssegcore.data.layouts._base import SPLITS
    from cssegcore.scenario.lists import check_shared, read_lists

    if params.scenario.lists:
        names = {name for part in SPLITS for name in dataset.names(part)}
        named = read_lists(params.scenario.lists, names, dataset.photograph_path)
        if params.evaluation.shared != "allow":
            check_shared(named)


def _note_scenario(params: Params, tables: dict[str, dict[str, str]]) -> None:
    """Has stages run again when other lists or another partition are named.

    They are no parameters of DVC's, which params.yaml would have to hold in every setting.
    """
    given = dataclasses.asdict(params.scenario)
    if params.scenario.lists:
        tables["split"]["scenario.lists"] = json.dumps(given["lists"], sort_keys=True)
        tables["saliency"]["images"] = "all"
    if params.scenario.rule != params.scenario.setting:
        tables["split"]["scenario.partition"] = json.dumps(given["partition"], sort_keys=True)


def _checked_network(
    params: Params, assembled: "AssembledRecipe", dataset: "Dataset"
) -> "Architecture":
    """Builds the network's part once, and refuses what does not fit recipe or scenario."""
    from cssegcore.core.registry import build_part
    from cssegcore.data.augmentation import Augmentation
    from cssegcore.method.network_compatibility import check_network
    from cssegcore.models._base import Architecture
    from cssegcore.models.checkpoint import NETWORKS

    architecture = build_part(NETWORKS, Architecture, params.model, "model")
    check_network(assembled, architecture)
    architecture.check()
    first, *_ = params.scenario_of(dataset.classes).steps
    architecture.check_outputs(1 + len(first.classes))
    size = Augmentation.of(params.augmentation).size
    assembled.increment.replay.check(architecture.extractor, size)
    return architecture


def _metrics(params: Params) -> list[str]:
    """Builds the metrics once and returns their modules."""
    from cssegcore.core.registry import part_module
    from cssegcore.evaluation.meters import METRICS, build_metrics

    recipes, where = params.evaluation.metrics, "evaluation.metrics"
    build_metrics(recipes, where)
    return [part_module(METRICS, recipe, f"{where}.{n}") for n, recipe in recipes.items()]


def _check_room(params: Params, assembled: "AssembledRecipe", dataset: "Dataset") -> None:
    """Refuses what does not fit dataset, batch or scenario."""
    from cssegcore.method.scenario_compatibility import (
        check_annotated,
        check_without_new_classes,
        labels_without_effect,
    )

    size, photographs = assembled.increment.replay.size, _photographs(params, dataset)
    if size > photographs:
        raise InputError(
            f"`method.replay.size` is {size}, but the dataset has {photographs} training"
            f" photographs in all: keep at most as many, such as {max(1, photographs // 10)}."
        )
    check_places(params, assembled.increment.replay)
    _check_settings(params)
    scenario = params.scenario_of(dataset.classes)
    if scenario.by_domain:
        check_without_new_classes(assembled)
    check_annotated(assembled, scenario)
    for remark in labels_without_effect(assembled, scenario):
        warn(remark)
    _check_label_0(params, assembled, dataset, by_domain=scenario.by_domain)
    if assembled.increment.unknown.present and len(dataset.classes) > IGNORE - 1:
        raise InputError(
            f"`method.base.unknown_class` adds an output to {len(dataset.classes)} classes, and"
            f" label images name at most {IGNORE}: set it to none or merge two classes."
        )


def _check_settings(params: Params) -> None:
    """Refuses parts that know another setting than the scenario's; lists may be of either kind."""
    setting = params.scenario.setting
    known = {setting, "overlapped", "disjoint"} if setting == "listed" else {setting}
    for where, recipe in parts_with_a_setting(params.method):
        if recipe["setting"] not in known:
            also = ", or this one to overlapped or disjoint" * (len(known) > 1)
            raise InputError(
                f"`{where}.setting` is {recipe['setting']!r}, but `scenario.setting` is"
                f" {setting!r}: both say which classes are annotated, so set them alike{also}."
            )


def _photographs(params: Params, dataset: "Dataset") -> int:
    """Counts the photographs that may be trained on: where steps list them, those of all parts."""
    from cssegcore.data.layouts._base import SPLITS

    parts = SPLITS if params.scenario.lists else SPLITS[:1]
    return len({name for part in parts for name in dataset.names(part)})


def _check_label_0(
    params: Params, assembled: "AssembledRecipe", dataset: "Dataset", *, by_domain: bool
) -> None:
    """Refuses what takes label 0 for the background, if it is a class."""
    if params.dataset.get("background") != "none":
        return
    if params.labels.void == "background":
        raise InputError(
            "`labels.void` is 'background', and the dataset has none: its label 0 is the class"
            f" {dataset.classes[0]!r}. Set it to ignore."
        )
    if assembled.increment.background.output != "argmax":
        raise InputError(
            f"`method.base.background` is {assembled.recipe.base.background['part']!r}, and the"
            f" dataset has none: its label 0 is the class {dataset.classes[0]!r}, which needs an"
            " output. Set it to argmax."
        )
    if not by_domain or params.scenario.left_out == "background":
        key = "setting" if not by_domain else "left_out"
        raise InputError(
            f"`scenario.{key}` is {getattr(params.scenario, key)!r}, which makes classes the"
            f" background, and the dataset has none: its label 0 is the class"
            f" {dataset.classes[0]!r}. "
            + ("Choose a setting by domain." if not by_domain else "Set it to void.")
        )


def parts_with_a_setting(method: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields the parts of a recipe that read which classes are annotated, and where they stand."""
    for where, section in (("method.base", method["base"]), ("method", method)):
        for slot in ("losses", "statistics"):
            for name, recipe in section[slot].items():
                if "setting" in recipe:
                    yield f"{where}.{slot}.{name}", recipe


def _write(out: Path, nothing: Path, first: Path, tables: dict[str, dict[str, str]]) -> None:
    from cssegcore.core.files import write_json, write_manifest, write_text
    from cssegcore.evaluation.folder import write_nothing

    for name, table in tables.items():
        write_json(out / f"{name}.json", table)
    write_text(nothing / "model.safetensors", "none\n")
    write_nothing(nothing / "evaluation")
    write_manifest(first / "pseudo_labels", {"images": {}})
    for kind in ("memory", "synthesis"):
        write_manifest(first / kind, {"images": []})


if __name__ == "__main__":
    run(main)
