"""Trains one step from arrays, as the pipeline's stages do, without their files."""

import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from cssegcore.api.recipe import MODEL, OPTIMIZER, check, whole_recipe
from cssegcore.core.class_table import ClassTable, Void
from cssegcore.core.config import parse, shown
from cssegcore.core.errors import InputError
from cssegcore.core.files import unwritable
from cssegcore.core.names import unfit_class
from cssegcore.core.ranges import at_least, positive
from cssegcore.core.registry import build_part
from cssegcore.data.arrays import ArrayDataset, Arrays, ArrayStream
from cssegcore.data.image_list import ImageList
from cssegcore.method.assembled import AssembledRecipe
from cssegcore.method.network_compatibility import check_network
from cssegcore.method.pseudo_labels import LabelRequest
from cssegcore.models import checkpoint
from cssegcore.models._base import Architecture
from cssegcore.runtime.device import choose_device
from cssegcore.runtime.resume import ResumeFile
from cssegcore.saliency.maps import write_maps
from cssegcore.training.hooks import EpochRow, Hooks
from cssegcore.training.setup import StageInputs, TrainingParams, build_trainer


def train_step(
    images: ArrayStream,
    labels: ArrayStream,
    classes: Sequence[str],
    *,
    recipe: Mapping[str, Any],
    out: str | Path,
    previous: str | Path | None = None,
    model: Mapping[str, Any] | None = None,
    optimizer: Mapping[str, Any] | None = None,
    augmentation: Mapping[str, Any] | None = None,
    memory: tuple[ArrayStream, ArrayStream] | None = None,
    epochs: int = 8,
    lr: float = 0.02,
    seed: int = 1,
    void: Void = "ignore",
    device: str | torch.device | None = None,
    tell: Callable[[EpochRow], None] | None = None,
) -> list[EpochRow]:
    """Trains one step and writes its model; sections are the same as in `params.yaml`.

    Args:
        images: RGB photographs of the step, uint8: an array (n, h, w, 3) or a list of (h, w, 3).
        labels: Annotations of this step, uint8, (h, w) each: 0 background, which in later steps
            covers all that the step does not annotate; classes in learning order; 255 void. Where
            a recipe counts or labels the step's classes alone (STAR, DKD-M), others read as 0.
        classes: Names of the classes that the step adds, background left out. The first is label 1
            in the base step, later one more than the last class of `previous`.
        recipe: The section `method`, such as a file of `conf/method/`, with the same defaults. Only
            its `base` acts where there is no `previous`.
        out: The model file to write (safetensors); a model that is there is replaced, except
            `previous`.
        previous: The previous step's model file; None for the base step.
        model: The section `model`; None for that of `previous`, or the small one.
        optimizer: The section `optimizer`; None for SGD with batches of 8.
        augmentation: The section `augmentation`; None for random crops at the size of the smallest
            photograph, and flips.
        memory: Images of earlier steps and their labels, for a recipe with `replay: exemplars`.
        epochs: Passes over the images.
        lr: Learning rate at the first iteration.
        seed: Seed of fresh weights, order and crops: the same seed gives the same model.
        void: Whether pixels labelled 255 do not train, or count as `background`.
        device: Device of the training; None for `CSSEGCORE_DEVICE`, else the GPU if there is one.
        tell: Function that gets each epoch's row after the epoch.

    Returns:
        One row an epoch: `epoch`, `lr`, `loss` and each term of the loss.

    Raises:
        InputError: An array, a section or the model of `previous` does not fit, or `out` cannot be
            written.
        FloatingPointError: The loss or a weight is not finite.
    """
    given = {"epochs": epochs, "lr": lr, "seed": seed, "void": void}
    parse(_Numbers, given, "the arguments of `train_step`")
    previous_model = Path(previous) if previous else None
    _check_out(Path(out), previous_model)
    section = whole_recipe(recipe)
    assembled = check(section)
    chosen = choose_device() if device is None else torch.device(device)
    cpu = torch.device("cpu")
    known = checkpoint.load_model(previous_model, cpu).model if previous_model else None
    parts: dict[str, tuple[Arrays, Arrays]] = {"train": _listed("images", images, labels)}
    if memory is not None:
        _check_memory(assembled, known)
        parts["memory"] = _listed("memory", *memory)
    grown = _grown(known, classes)
    dataset = ArrayDataset.of(grown.names, parts)
    visible = _visible(assembled, grown)
    lists = {part: _list(dataset, grown, part, visible, void) for part in parts}
    if not lists["train"].images:
        raise InputError("there is nothing to train on: give an image.")
    params = TrainingParams(
        method=section,
        model=model or (known.network if known else MODEL),
        optimizer=optimizer or OPTIMIZER,
        augmentation=augmentation or _crops(parts["train"][0]),
        epochs=epochs,
        lr=lr,
        seed=seed,
    )
    check_network(assembled, build_part(checkpoint.NETWORKS, Architecture, params.model, "model"))
    with tempfile.TemporaryDirectory() as folder:
        inputs = _stage_inputs(assembled, dataset, lists, previous_model, Path(folder))
        trainer = build_trainer(params, dataset, lists["train"], previous_model, chosen, inputs)
        trained = trainer.train(
            ResumeFile(Path(folder) / "resume.pt"), Hooks(tell or (lambda _: None), _silent)
        )
    checkpoint.save(Path(out), trainer.segmenter, trainer.model, trained.statistics)
    return trained.rows


def _check_out(out: Path, previous: Path | None) -> None:
    """Makes sure, before hours of training, that its model can be written."""
    if out.is_dir():
        raise InputError(f"`out` is the folder {out}: name a file, as {out}/model.safetensors.")
    if previous and out.resolve() == previous.resolve():
        raise InputError(f"`out` is {out}, the model of `previous`, too: name another file.")
    if out.exists() and not checkpoint.is_model(out):
        raise InputError(f"`out` is {out}, which is there and no model: name another file.")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out.parent):
            pass
    except OSError as error:
        raise unwritable(out, error) from None


@dataclass(frozen=True)
class _Numbers:
    epochs: int
    lr: float
    seed: int
    void: Void

    def __post_init__(self) -> None:
        at_least(1, epochs=self.epochs)
        at_least(0, seed=self.seed)
        positive(lr=self.lr)


def _listed(name: str, images: ArrayStream, labels: ArrayStream) -> tuple[Arrays, Arrays]:
    """Returns lists of both, which may have come as iterators."""
    try:
        return list(images), list(labels)
    except TypeError:
        kinds = f"{type(images).__name__} and {type(labels).__name__}"
        raise InputError(f"`{name}` and its labels are {kinds}: give arrays, or lists.") from None


def _check_memory(assembled: AssembledRecipe, known: checkpoint.Model | None) -> None:
    if known is None or not assembled.increment.replay.selects_exemplars:
        raise InputError(
            "`memory` holds images of earlier steps, and this training replays none: name a"
            " `previous` model and set `method.replay` to exemplars, or leave `memory` out."
        )


def _grown(known: checkpoint.Model | None, classes: Sequence[str]) -> ClassTable:
    """Returns the classes of all steps, this one included; raw labels are outputs."""
    if isinstance(classes, str) or not classes:
        raise InputError("`classes` must list the names of the classes that the step adds.")
    steps = [*known.classes.names_by_step, classes] if known else [["background", *classes]]
    names = [name for step in steps for name in step]
    if strange := [c for c in classes if not isinstance(c, str) or unfit_class(c)]:
        raise InputError(
            f"`classes` names a class {shown(strange[0])}: give it a name without control"
            " characters, and without spaces around it."
        )
    if len(names) > 255:
        raise InputError(f"there are {len(names)} classes, and label images hold 255: learn fewer.")
    if twice := [name for name in names if names.count(name) > 1]:
        raise InputError(f"`classes` names {twice[0]!r}, which is there already: rename it.")
    places = iter(range(len(names)))
    return ClassTable.of(steps, [[next(places) for _ in step] for step in steps])


def _visible(assembled: AssembledRecipe, classes: ClassTable) -> list[int]:
    """Returns the labels that a training reads: all, or the step's own where old ones must hide."""
    method = assembled.increment
    hidden = any(statistic.needs_old_pass for statistic in method.statistics.values())
    alone = hidden or method.replay.labelled_as_own
    return [label for label in classes.foreground if label in classes.new or not alone]


def _list(
    dataset: ArrayDataset, classes: ClassTable, part: str, visible: list[int], void: Void
) -> ImageList:
    index = len(classes.sizes) - 1
    return ImageList(
        step=f"step{index}",
        index=index,
        classes=classes,
        visible=visible,
        images=[[name, ""] for name in dataset.photographs if name.startswith(f"{part}/")],
        void=void,
    )


def _crops(images: Arrays) -> dict[str, Any]:
    size = min(side for image in images for side in image.shape[:2])
    return {"part": "random_resized_crop", "size": size, "area": [0.4, 1.0], "aspect": [0.9, 1.1]}


def _stage_inputs(
    assembled: AssembledRecipe,
    dataset: ArrayDataset,
    lists: Mapping[str, ImageList],
    previous: Path | None,
    folder: Path,
) -> StageInputs:
    """Has the parts write into `folder` the files that their stages write for a training."""
    saliency, pseudo_labels, memory = (folder / n for n in ("saliency", "pseudo", "memory"))
    unknown = assembled.base.unknown
    if unknown.by_saliency:
        write_maps(saliency, dataset, list(dataset.photographs), unknown.maps, _silent)
    if previous is None:
        return StageInputs(saliency=saliency)
    if "memory" in lists:
        lists["memory"].write(memory / "list.json")
    assembled.pseudo_labels.write(pseudo_labels, LabelRequest(dataset, lists, previous, _silent))
    return StageInputs(pseudo_labels, memory, saliency)


def _silent(items: Iterable[Any], _: int) -> Iterable[Any]:
    return items
