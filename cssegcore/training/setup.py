"""One step's training, put together from plain data: what `stages.train` and `bench` start."""

import copy
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cssegcore.core.config import parse
from cssegcore.core.errors import InputError
from cssegcore.core.files import read_manifest
from cssegcore.core.registry import build_part
from cssegcore.core.types import BACKGROUND, IGNORE
from cssegcore.data.augmentation import Augmentation
from cssegcore.data.batches import Images, Labels, Replayed, Revise
from cssegcore.data.dataset import Dataset, read_labels
from cssegcore.inversion import store
from cssegcore.method.method import Method, Recipe
from cssegcore.models import checkpoint
from cssegcore.models.fuse_batchnorm import fuse_batchnorm
from cssegcore.models.segmenter import Segmenter
from cssegcore.saliency.reading import Maps
from cssegcore.scenario.scenario import StepList
from cssegcore.training.compile import check_compiler
from cssegcore.training.optimizer import Optimizer
from cssegcore.training.trainer import Job, Task

AUGMENTATIONS = "cssegcore.data.augmentation"


@dataclasses.dataclass(frozen=True)
class Plan:
    """The plain data of a training.

    Attributes:
        method: The section `method`.
        model: The section `model`.
        optimizer: The section `optimizer`.
        augmentation: The section `augmentation`.
        epochs: Passes over the step's images.
        lr: Learning rate at the first iteration.
        seed: Of the run.
    """

    method: Mapping[str, Any]
    model: Mapping[str, Any]
    optimizer: Mapping[str, Any]
    augmentation: Mapping[str, Any]
    epochs: int
    lr: float
    seed: int


@dataclasses.dataclass(frozen=True)
class Sources:
    """What stages before the training left for it; any may be absent.

    Attributes:
        pseudo_labels: Folder of the step's label images and their manifest.
        memory: Folder of the exemplar list and its manifest.
        saliency: Folder of the saliency maps and their manifest.
        synthesis: Folder of made images and their list.
    """

    pseudo_labels: Path | None = None
    memory: Path | None = None
    saliency: Path | None = None
    synthesis: Path | None = None


def prepare(
    plan: Plan,
    dataset: Dataset,
    image_list: StepList,
    previous: Path | None,
    device: torch.device,
    sources: Sources = Sources(),
) -> Job:
    """Builds or loads networks, grows the new head, and decodes the images.

    Args:
        plan: How to train.
        dataset: Where the images lie.
        image_list: Which images, and what their labels mean.
        previous: The model of the step before; none for the base step.
        device: Where to train.
        sources: What earlier stages left.

    Raises:
        InputError: A section is wrong, or what earlier stages left does not fit the list; or there
            is no compiler for `optimizer.compile`.
    """
    recipe = Recipe.of(plan.method)
    method = Method.of(recipe) if previous else Method.of_base(recipe.base)
    optimizer = parse(Optimizer, plan.optimizer, "optimizer")
    if optimizer.compile:
        check_compiler(device)
    views = build_part(AUGMENTATIONS, Augmentation, plan.augmentation, "augmentation")
    model = checkpoint.Model(
        step=image_list.step,
        network=dict(plan.model),
        head=method.head_recipe,
        unknown=method.unknown_scores,
        classes=image_list.classes,
        raw=image_list.raw,
    )
    with torch.random.fork_rng():
        # fresh weights depend on seed and step alone, not on what ran before in this process
        torch.manual_seed(
            int(np.random.SeedSequence([plan.seed, image_list.index]).generate_state(1)[0])
        )
        networks = _networks(model, method, previous, device)
    rates = method.freeze(networks.segmenter)
    segmenter = networks.segmenter.to(device).to(memory_format=torch.channels_last)
    if method.freeze.freezes_extractor:
        segmenter.fuse_batchnorm()
    made = _made(method, sources)
    task = Task(
        step=image_list.step,
        index=image_list.index,
        epochs=plan.epochs,
        lr=plan.lr,
        seed=plan.seed,
        images=_images(dataset, image_list, method, sources, "train"),
        replayed=_replayed(dataset, image_list, method, sources, made),
        num_old=networks.num_old,
    )
    job = Job(
        segmenter=segmenter,
        model=model,
        old=networks.old,
        gathered=networks.gathered,
        rates=rates,
        task=task,
        method=method,
        optimizer=optimizer,
        augmentation=views,
        device=device,
        teachers=_teachers(method, made, device),
    )
    if optimizer.compile:
        job.compile()
    return job


@dataclasses.dataclass(frozen=True)
class _Networks:
    segmenter: Segmenter
    old: Segmenter | None
    gathered: checkpoint.Statistics
    num_old: int


def _networks(
    model: checkpoint.Model, method: Method, previous: Path | None, device: torch.device
) -> _Networks:
    if previous is None or method.from_scratch:
        return _Networks(model.segmenter(), None, {}, 1)
    loaded = checkpoint.load(previous, device)
    segmenter, known = loaded.segmenter, loaded.model
    parts = {
        "classes": (known.classes, model.classes[:-1]),
        "head": (known.head, model.head),
        "unknown": (known.unknown, model.unknown),
    }
    differing = [f"{n} {had}, not {due}" for n, (had, due) in parts.items() if had != due]
    if differing:
        raise InputError(
            f"the model {previous} does not fit {model.step}, which starts from it: it has"
            f" {'; '.join(differing)}. Run `dvc repro` so that the steps fit each other."
        )
    num_old, old = segmenter.outputs, None
    if any(term.needs_old for term in method.terms.values()):
        # penalties compare its weights with those in training, so they must be the file's
        old = copy.deepcopy(segmenter) if method.penalties else fuse_batchnorm(segmenter)
        old = old.requires_grad_(False).to(memory_format=torch.channels_last)
    if added := len(model.classes[-1]):  # none in a step of new domains
        segmenter.grow(added)
    method.classifier_init(segmenter.groups)
    return _Networks(segmenter, old, loaded.statistics, num_old)


def _images(
    dataset: Dataset, image_list: StepList, method: Method, sources: Sources, kind: str
) -> Images:
    """Reads the photographs of a dataset's list, labelled with network outputs."""
    revise = reader(dataset, method, sources, kind)
    return Images(dataset, image_list, revise, padding(method, kind))


def _replayed(
    dataset: Dataset,
    image_list: StepList,
    method: Method,
    sources: Sources,
    made: store.Opened | None,
) -> Replayed | None:
    """Reads the samples of earlier steps, if the recipe replays any and the step has some.

    What is void in made images is what their teachers were not sure of, and always ignored.
    """
    share, separate_batches = method.replay.share, bool(method.replayed)
    if made:
        return Replayed(
            Images(made.dataset, made.image_list), share, separate_batches, made.sources
        )
    if sources.memory is None or not method.replay.selects_exemplars:
        return None
    path = sources.memory / "list.json"
    kept = StepList.read(path) if path.exists() else None
    if not kept or not kept.images:
        return None
    kept = dataclasses.replace(kept, void=image_list.void)
    return Replayed(_images(dataset, kept, method, sources, "memory"), share, separate_batches)


def _made(method: Method, sources: Sources) -> store.Opened | None:
    if sources.synthesis is None or not method.replay.generates:
        return None
    return store.opened(sources.synthesis)


def _teachers(method: Method, made: store.Opened | None, device: torch.device) -> list[Segmenter]:
    """Loads the models that made images, if the recipe asks what they say of them."""
    if not made or not any(term.needs_teachers for term in method.replayed.values()):
        return []
    loaded = [fuse_batchnorm(checkpoint.load(path, device).segmenter) for path in made.teachers]
    return [m.to(memory_format=torch.channels_last) for m in loaded]


def reader(dataset: Dataset, method: Method, sources: Sources, kind: str) -> Revise | None:
    """Returns what turns annotations into labels: pseudo-labels, then the unknown class.

    Args:
        dataset: Whose images they are.
        method: The parts that act.
        sources: Where pseudo-labels and saliency maps lie.
        kind: Which list the images are of: `train` or `memory`.

    Returns:
        None if labels are what is annotated.
    """
    labelled = _labelled(sources.pseudo_labels, kind)
    unknown = method.unknown
    maps = None
    if unknown.by_saliency:
        if sources.saliency is None:
            raise InputError("the unknown class needs saliency maps: run `dvc repro saliency`.")
        maps = Maps.open(sources.saliency, dataset)
    if not labelled and not unknown.present:
        return None

    def revise(name: str, annotated: Labels) -> tuple[Labels, Labels]:
        labels = read_labels(labelled[name], annotated.shape) if name in labelled else annotated
        if kind == "memory" and not method.replay.uses_unknown_class:
            # as released: annotations stay below the unknown class, guesses are network outputs
            guessed = (annotated == BACKGROUND) & (labels != BACKGROUND) & (labels != IGNORE)
            return np.where(guessed, labels + unknown.present, annotated), annotated
        salient = maps.of(name) if maps else None
        return unknown.relabel(labels, salient), unknown.relabel(annotated, salient)

    return revise


def padding(method: Method, kind: str) -> int:
    """Returns the network output that black padding is labelled with.

    It is background that does not stand out: clovaai/SSUL, utils/ext_transforms.py, pads label and
    saliency with 0. So it is unknown where all background is, and in exemplars that stay unshifted.
    """
    nothing = np.zeros((1, 1), np.uint8)
    if kind == "memory" and not method.replay.uses_unknown_class:
        return BACKGROUND
    return int(method.unknown.relabel(nothing, nothing > 0).item())


def _labelled(folder: Path | None, kind: str) -> dict[str, Path]:
    if folder is None:
        return {}
    names = read_manifest(folder, "images")["images"].get(kind, [])
    return {name: folder / kind / f"{name}.png" for name in names}
