"""One step's training, put together from plain data: what `stages.train` and `bench` start."""

import copy
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cssegcore import checkpoint
from cssegcore.data.augmentation import Augmentation
from cssegcore.data.batches import Images
from cssegcore.data.dataset import Dataset
from cssegcore.engine import Job, Optimizer, Task
from cssegcore.errors import InputError
from cssegcore.method import Method, Recipe
from cssegcore.networks import Segmenter
from cssegcore.parts import make_part
from cssegcore.scenarios import StepList
from cssegcore.strict import build

VIEWS = "cssegcore.data.augmentation"


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


def prepare(
    plan: Plan, dataset: Dataset, chosen: StepList, previous: Path | None, device: torch.device
) -> Job:
    """Builds or loads networks, grows the new head, and decodes the images.

    Args:
        plan: How to train.
        dataset: Where the images lie.
        chosen: Which images, and what their labels mean.
        previous: The model of the step before; none for the base step.
        device: Where to train.

    Raises:
        InputError: A section is wrong, or the previous model does not fit the list.
    """
    recipe = Recipe.of(plan.method)
    method = Method.of(recipe) if previous else Method.of_base(recipe.base)
    optimizer = build(Optimizer, plan.optimizer, "optimizer")
    views = make_part(VIEWS, Augmentation, plan.augmentation, "augmentation")
    with torch.random.fork_rng():
        # fresh weights depend on seed and step alone, not on what ran before in this process
        torch.manual_seed(
            int(np.random.SeedSequence([plan.seed, chosen.index]).generate_state(1)[0])
        )
        segmenter, old = _networks(plan, method, chosen, previous, device)
    task = Task(
        step=chosen.step,
        index=chosen.index,
        epochs=plan.epochs,
        lr=plan.lr,
        seed=plan.seed,
        images=Images(dataset, chosen),
        num_old=sum(old.outputs) if old else 1,
    )
    model = checkpoint.Model(chosen.step, dict(plan.model), chosen.classes, chosen.raw)
    return Job(
        segmenter.to(device).to(memory_format=torch.channels_last),
        model,
        old,
        task,
        method,
        optimizer,
        views,
        device,
    )


def _networks(
    plan: Plan, method: Method, chosen: StepList, previous: Path | None, device: torch.device
) -> tuple[Segmenter, Segmenter | None]:
    outputs = [len(names) for names in chosen.classes]
    if previous is None or method.from_scratch:
        return checkpoint.new_segmenter(plan.model, outputs), None
    segmenter, known = checkpoint.load(previous, device)
    if known.classes != chosen.classes[:-1]:
        raise InputError(
            f"the model {previous} knows {known.classes}, but {chosen.step} starts from"
            f" {chosen.classes[:-1]}: run `dvc repro` so that the steps fit each other."
        )
    old = copy.deepcopy(segmenter)
    segmenter.grow(outputs[-1])
    method.classifier_init(segmenter.classifiers)
    return segmenter, old.requires_grad_(False).to(memory_format=torch.channels_last)
