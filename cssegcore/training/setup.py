"""Builds the training of one step from plain data and from the files of earlier stages."""

import copy
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from cssegcore.core.errors import InputError
from cssegcore.data.augmentation import Augmentation
from cssegcore.data.batches import Replayed
from cssegcore.data.dataset import Dataset
from cssegcore.data.image_list import ImageList
from cssegcore.data.image_store import ImageStore
from cssegcore.method.method import Method, Recipe
from cssegcore.method.replay import GeneratedImages
from cssegcore.models import checkpoint
from cssegcore.models.fuse_batchnorm import fuse_batchnorm
from cssegcore.models.segmenter import Segmenter
from cssegcore.runtime.seeding import seeded
from cssegcore.training.compile import check_compiler
from cssegcore.training.kept_images import keep_images
from cssegcore.training.labels import ListKind, label_rule, padding
from cssegcore.training.optimizer import build_optimizer
from cssegcore.training.trainer import StepData, Trainer


@dataclasses.dataclass(frozen=True)
class TrainingParams:
    """The parameters of a training, plain data.

    Attributes:
        method: The section `method` of the parameters.
        model: The section `model`.
        optimizer: The section `optimizer`.
        augmentation: The section `augmentation`.
        epochs: Passes over the step's images.
        lr: Learning rate at the first iteration.
        seed: Seed of the run.
    """

    method: Mapping[str, Any]
    model: Mapping[str, Any]
    optimizer: Mapping[str, Any]
    augmentation: Mapping[str, Any]
    epochs: int
    lr: float
    seed: int


@dataclasses.dataclass(frozen=True)
class StageInputs:
    """The folders that earlier stages wrote for a training; any may be absent.

    Attributes:
        pseudo_labels: Folder of the step's label images and their manifest.
        memory: Folder of the exemplar list and its manifest.
        saliency: Folder of the saliency maps and their manifest.
        synthesis: Folder of synthesized images and their list.
    """

    pseudo_labels: Path | None = None
    memory: Path | None = None
    saliency: Path | None = None
    synthesis: Path | None = None


def build_trainer(
    params: TrainingParams,
    dataset: Dataset,
    image_list: ImageList,
    previous: Path | None,
    device: torch.device,
    inputs: StageInputs = StageInputs(),
) -> Trainer:
    """Builds or loads the networks, adds the new head, and looks at every image.

    Args:
        params: The parameters.
        dataset: The dataset of the images.
        image_list: The list of the images, and the meaning of their labels.
        previous: The model file of the previous step; none for the base step.
        device: The device to train on.
        inputs: The folders that earlier stages wrote.

    Raises:
        InputError: A section is wrong, or a file of an earlier stage does not fit the list; there
            is no compiler for `optimizer.compile`; or `CSSEGCORE_MEMORY` is less than batches take.
    """
    recipe = Recipe.of(params.method)
    method = Method.of(recipe) if previous else Method.of_base(recipe.base)
    optimizer = build_optimizer(params.optimizer)
    if optimizer.compile:
        check_compiler(device)
    augmentation = Augmentation.of(params.augmentation)
    model = _model(params, image_list, method)
    with seeded(params.seed, image_list.index):
        networks = _networks(model, method, previous, device)
    update_factors = method.freeze(networks.segmenter)
    segmenter = networks.segmenter.to(device).to(memory_format=torch.channels_last)
    if method.freeze.freezes_extractor:
        segmenter.fuse_batchnorm()
    generated = _generated(method, inputs)
    images = _images(dataset, image_list, method, inputs, "train")
    replayed = _replayed(dataset, image_list, method, inputs, generated)
    keep_images(image_list.step, images, replayed, optimizer.batch_size)
    trainer = Trainer(
        segmenter=segmenter,
        model=model,
        old=networks.old,
        old_weights=networks.old_weights,
        previous_statistics=networks.statistics,
        update_factors=update_factors,
        data=StepData(
            step=image_list.step,
            index=image_list.index,
            epochs=params.epochs,
            lr=params.lr,
            seed=params.seed,
            images=images,
            replayed=replayed,
            num_old=networks.num_old,
        ),
        method=method,
        optimizer=optimizer,
        augmentation=augmentation,
        device=device,
        teachers=_teachers(method, generated, device),
    )
    if optimizer.compile:
        trainer.compile()
    return trainer


def _model(params: TrainingParams, image_list: ImageList, method: Method) -> checkpoint.Model:
    return checkpoint.Model(
        step=image_list.step,
        network=dict(params.model),
        head=method.head_recipe,
        unknown=method.unknown_scores,
        classes=image_list.classes,
        background=method.background.output,
    )


@dataclasses.dataclass(frozen=True)
class _Networks:
    segmenter: Segmenter
    old: Segmenter | None
    old_weights: dict[str, torch.Tensor]
    statistics: checkpoint.Statistics
    num_old: int


def _networks(
    model: checkpoint.Model, method: Method, previous: Path | None, device: torch.device
) -> _Networks:
    if previous is None or method.from_scratch:
        return _Networks(model.segmenter(), None, {}, {}, 1)
    loaded = checkpoint.load_model(previous, device)
    segmenter, known = loaded.segmenter, loaded.model
    parts = {
        "classes": (known.classes.as_file()["classes"], model.classes.old.as_file()["classes"]),
        "head": (known.head, model.head),
        "unknown": (known.unknown, model.unknown),
        "background": (known.background, model.background),
    }
    differing = [f"{n} {had}, not {due}" for n, (had, due) in parts.items() if had != due]
    if differing:
        raise InputError(
            f"the model {previous} does not fit {model.step}, which starts from it: it has"
            f" {'; '.join(differing)}. Run `dvc repro` so that the steps fit each other."
        )
    num_old, old, old_weights = segmenter.outputs, None, {}
    if method.after.needs_old:  # the initialisation below may change an old head in place
        # on the host, where it costs no memory of the device while the step is trained
        old_weights = {n: tensor.cpu().clone() for n, tensor in segmenter.state_dict().items()}
    if method.needs_old:
        # penalties compare its weights with those in training, so they must be the file's
        old = copy.deepcopy(segmenter) if method.penalties else fuse_batchnorm(segmenter)
        old = old.requires_grad_(False).to(memory_format=torch.channels_last)
    if added := len(model.classes.new):  # none in a step of new domains
        segmenter.grow(added)
    method.classifier_init(segmenter.groups)
    return _Networks(segmenter, old, old_weights, loaded.statistics, num_old)


def _images(
    dataset: Dataset, image_list: ImageList, method: Method, inputs: StageInputs, kind: ListKind
) -> ImageStore:
    """Finds the images of a dataset's list, labelled with network outputs."""
    rule = label_rule(
        dataset, method, kind, pseudo_labels=inputs.pseudo_labels, saliency=inputs.saliency
    )
    return ImageStore(dataset, image_list, rule, padding(method, kind))


def _replayed(
    dataset: Dataset,
    image_list: ImageList,
    method: Method,
    inputs: StageInputs,
    generated: GeneratedImages | None,
) -> Replayed | None:
    """Finds the images of earlier steps, if the recipe replays any and the step has some.

    Void pixels of synthesized images are always ignored: there the model's label was uncertain.
    """
    if generated:
        return Replayed(
            ImageStore(generated.dataset, generated.image_list),
            method.replay.share,
            separate_batches=bool(method.replayed),
            sources=generated.sources,
        )
    if inputs.memory is None or not method.replay.selects_exemplars:
        return None
    path = inputs.memory / "list.json"
    kept = ImageList.read(path) if path.exists() else None
    if not kept or not kept.images:
        return None
    kept = dataclasses.replace(kept, void=image_list.void)
    if method.replay.labelled_as_own:
        kept = dataclasses.replace(kept, visible=image_list.visible)
    return Replayed(
        _images(dataset, kept, method, inputs, "memory"),
        method.replay.share,
        separate_batches=bool(method.replayed),
        concatenated=method.replay.concatenated,
    )


def _generated(method: Method, inputs: StageInputs) -> GeneratedImages | None:
    return method.replay.read(inputs.synthesis) if inputs.synthesis else None


def _teachers(
    method: Method, generated: GeneratedImages | None, device: torch.device
) -> list[Segmenter]:
    """Loads the models that images were inverted from, if a loss needs their logits."""
    if not generated or not any(term.needs_teachers for term in method.replayed.values()):
        return []
    loaded = [
        fuse_batchnorm(checkpoint.load_model(path, device).segmenter) for path in generated.teachers
    ]
    return [m.to(memory_format=torch.channels_last) for m in loaded]
