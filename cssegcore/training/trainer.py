"""The training loop of one incremental step. It knows no method: `Objective` holds the terms.

Nothing is drawn from a running generator: order, crops, dropout and new weights depend on the seed,
the step and the epoch alone. A training that goes on after a kill therefore sees the same batches.
"""

import contextlib
import dataclasses
import functools
from collections.abc import Generator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import Parameter

from cssegcore.core.errors import InputError
from cssegcore.core.normalization import Normalization
from cssegcore.core.types import Progress, UpdateFactors
from cssegcore.data.augmentation import Augmentation
from cssegcore.data.batch import Batch
from cssegcore.data.batches import Replayed, iterations, smallest_batch, training_batches
from cssegcore.data.image_store import ImageStore
from cssegcore.data.prefetch import prefetch
from cssegcore.method.method import Method
from cssegcore.method.statistics import StatisticContext
from cssegcore.models.checkpoint import Model, Statistics
from cssegcore.models.segmenter import Segmenter
from cssegcore.runtime.device import peak_memory
from cssegcore.runtime.distributed import (
    all_gather,
    all_reduce_sum,
    average_gradients,
    broadcast,
    world,
)
from cssegcore.runtime.resume import ResumeFile
from cssegcore.runtime.seeding import seeded
from cssegcore.training.batchnorm import synchronized
from cssegcore.training.compile import compile_extractors
from cssegcore.training.finite import check_finite
from cssegcore.training.hooks import EpochRow, Hooks
from cssegcore.training.loss_scaling import check_pieces
from cssegcore.training.objective import Objective, Terms, penalty_inputs, start_statistics
from cssegcore.training.optimizer import Optimizer, group_weights
from cssegcore.training.passes import StatisticPasses
from cssegcore.training.pretuning import Pretuning
from cssegcore.training.state import TrainingState
from cssegcore.training.validation import BestEpoch, Validation


@dataclasses.dataclass(frozen=True)
class StepData:
    """The images and numbers of one step's training.

    Attributes:
        step: Name of the step, for messages.
        index: Place of the step, 0 the base.
        epochs: Passes over the images.
        lr: Learning rate at the first iteration.
        seed: Seed of the whole run.
        images: The step's images.
        replayed: Images of earlier steps, or none.
        num_old: Outputs of the old model, 1 without one.
    """

    step: str
    index: int
    epochs: int
    lr: float
    seed: int
    images: ImageStore
    replayed: Replayed | None
    num_old: int

    def batches(
        self,
        epoch: int,
        augmentation: Augmentation,
        batch_size: int,
        device: torch.device,
        normalization: Normalization,
    ) -> Generator[Batch]:
        """Yields this process's batches of an epoch; see `training_batches`."""
        batches = training_batches(
            self.images,
            augmentation,
            batch_size,
            np.random.default_rng([self.seed, self.index, epoch]),
            device,
            normalization,
            self.replayed,
            world(),
        )
        return prefetch(batches) if device.type == "cuda" else batches


@dataclasses.dataclass(frozen=True)
class Trained:
    """The results of a training beside the network.

    Attributes:
        rows: Row of each epoch.
        statistics: The collected statistics, by name.
        peak_memory: See `device.peak_memory`; the largest of all processes.
        seconds: Duration by the clock of this process. Epochs that a killed training lost count
            once, when they are repeated.
    """

    rows: list[EpochRow]
    statistics: Statistics
    peak_memory: float
    seconds: float


@dataclasses.dataclass(frozen=True)
class Trainer:
    """The training of one step, ready to run.

    `train` trains the new head alone, if `classifier_init` asks for it (`pretuning`), begins, shows
    the old model's outputs to the statistics that ask for them, or restores the state of a killed
    training, and for each epoch that is left
    1. runs over the batches; for each it computes the gradients of all losses, averages them over
       the processes, shows them to the statistics, adds the gradients of the penalties, clips, and
       updates the weights;
    2. saves its state and calls the hook with the epoch's row.
    At the end the method's rule `after` acts on the weights, and statistics that describe the saved
    network look at it. The state of a killed training holds the weights as trained, so that the
    rule never acts twice.

    Attributes:
        segmenter: The network with the step's head, trained in place, on `device`.
        model: The description of the network for its file.
        old: The previous step's model in evaluation mode, or none.
        old_weights: The tensors of the previous step's model as saved, on the host, if the rule
            `after` reads them.
        previous_statistics: The statistics that the previous step saved, by name.
        update_factors: Factors of learning rate and weight decay by the weight's name; 1 for
            weights that are not named.
        data: Images and numbers of the step.
        method: The parts that act.
        optimizer: Batch size, learning rate and the rule that updates weights.
        augmentation: The rule that draws crops.
        device: The device of networks and batches.
        teachers: The models that the replayed images were inverted from, if terms need their
            logits.
    """

    segmenter: Segmenter
    model: Model
    old: Segmenter | None
    old_weights: Mapping[str, Tensor]
    previous_statistics: Statistics
    update_factors: Mapping[str, UpdateFactors]
    data: StepData
    method: Method
    optimizer: Optimizer
    augmentation: Augmentation
    device: torch.device
    teachers: Sequence[Segmenter] = ()

    def compile(self) -> None:
        """Compiles the extractors of its networks when they first run; see `training.compile`."""
        compile_extractors(self.segmenter, self.old, self.teachers, self.device)

    def train(
        self, resume: ResumeFile, hooks: Hooks, validation: Validation | None = None
    ) -> Trained:
        """Trains `segmenter` in place, together with the processes of `process_group`.

        Args:
            resume: File for the state after each epoch, written by the first process; the caller
                removes it once the result is safe.
            hooks: Callbacks, called in every process.
            validation: Rule for the measured epochs; none are measured without one.

        Raises:
            FloatingPointError: The loss or a weight is not finite; nothing of that epoch is kept.
            InputError: The resume file is damaged, a batch has too few images to be shared, or the
                state of the best epoch could not be written.
        """
        batch = smallest_batch(self.data.images, self.optimizer.batch_size, self.data.replayed)
        check_pieces(self.data.step, batch, self.optimizer.accumulate)
        broadcast(self.segmenter.state_dict().values())
        _pretuning(self).run(resume.beforehand, hooks.pass_progress)
        running = self.begin()
        rows = self.restore(running, resume)
        best = BestEpoch(resume.best, validation)
        best.keep(rows, lambda: _state(self, running))
        for row in rows:
            hooks.epoch(row)
        numbers = self._iterations, self.optimizer.accumulate
        passes = StatisticPasses(running.objective, self._batches, *numbers, hooks.pass_progress)
        if not rows:
            passes.prepare(self.data.epochs)  # an epoch that training never reaches
        self.segmenter.train()
        with synchronized(self.segmenter):
            for epoch in range(len(rows), self.data.epochs):
                numbers = (self.data.seed, self.data.index, epoch, world().rank)
                # networks draw themselves: dropout, branches to leave out
                with seeded(*numbers, device=self.device):
                    rows.append(self.epoch(running, epoch, hooks.progress))
                rows[-1] |= _measured(self, validation, epoch, hooks.pass_progress)
                if world().is_main:
                    resume.save({**_state(self, running), "rows": rows})
                best.keep(rows, lambda: _state(self, running))
                hooks.epoch(rows[-1])
        if state := best.load(rows, self.device):
            self.segmenter.load_state_dict(state["model"])
            running.restore({**state, "seconds": 0.0})
        statistics = running.statistics(final=False)  # of the weights as trained
        self.finish()
        passes.conclude(self.data.epochs + 1)
        statistics = {**statistics, **running.statistics(final=True)}
        peak = max(all_gather(peak_memory(self.device)))
        return Trained(rows, statistics, peak, running.stopwatch.seconds)

    def finish(self) -> None:
        """Applies the rule `after` to the trained weights in place, alike in every process."""
        num_new = self.segmenter.outputs - self.data.num_old
        num_old = self.segmenter.classes - num_new
        old = {name: tensor.to(self.device) for name, tensor in self.old_weights.items()}
        new = self.segmenter.state_dict()
        self.segmenter.load_state_dict(self.method.after(old, new, num_old, num_new))

    def begin(self) -> TrainingState:
        """Returns the fresh state of optimizer and statistics, and the objective."""
        weights = {n: p for n, p in self.segmenter.named_parameters() if p.requires_grad}
        saved = self.previous_statistics
        context = _context(self.segmenter, weights, self.data, self._iterations, self.device)
        objective = Objective(
            method=self.method,
            segmenter=self.segmenter,
            old=self.old,
            teachers=self.teachers,
            num_old=self.data.num_old,
            accumulators=start_statistics(self.method.statistics, context, saved),
            penalized=penalty_inputs(self.method.penalties, weights, self.old, saved),
            seed=(self.data.seed, self.data.index),
            bfloat16=self.optimizer.amp and self.device.type == "cuda",
        )
        groups = group_weights(weights, self.update_factors, self.optimizer.backbone_lr)
        return TrainingState(self.optimizer.start(groups), objective)

    def restore(self, running: TrainingState, resume: ResumeFile) -> list[EpochRow]:
        """Loads the state of a killed training, if there is one, and returns its rows.

        Raises:
            InputError: The file is damaged, or not every process finds the same.
        """
        state: Mapping[str, Any] | None = resume.load(self.device)
        if len(set(all_gather(len(state["rows"]) if state else 0))) > 1:
            raise InputError(
                f"not every process finds the same resume file {resume.path}: put it on a disk that"
                " all of them see, or delete it."
            )
        if state is None:
            return []
        self.segmenter.load_state_dict(state["model"])
        running.restore(state)
        return state["rows"]

    def epoch(self, running: TrainingState, epoch: int, progress: Progress) -> EpochRow:
        """Trains one epoch, counted from 0.

        Raises:
            FloatingPointError: The loss or a weight is not finite.
        """
        count = self._iterations
        sums: dict[str, Tensor] = {}
        lr = functools.partial(self._lr, count)
        with contextlib.closing(self._batches(epoch)) as batches:
            for at, batch in enumerate(progress(batches, count), epoch * count):
                running.updater.zero_grad()
                terms = self.gradients(running.objective, batch, at)
                if self.optimizer.clip:
                    weights = self.segmenter.parameters()
                    torch.nn.utils.clip_grad_norm_(weights, self.optimizer.clip)
                running.updater.step(functools.partial(lr, at))
                loss = torch.stack(list(terms.values())).sum()
                for name, value in {"loss": loss, **terms}.items():  # kept on the device: no sync
                    sums[name] = sums.get(name, torch.zeros_like(value)) + value
        size = world().size
        means = {name: float(all_reduce_sum(value)) / size / count for name, value in sums.items()}
        check_finite(self.data.step, epoch, means, self.segmenter.state_dict())
        return {"epoch": epoch + 1.0, "lr": lr((epoch + 1) * count - 1, 1.0), **means}

    def gradients(self, objective: Objective, batch: Batch, iteration: int = 0) -> Terms:
        """Adds the gradients of one batch and returns its weighted terms, detached."""
        terms = objective.backward(batch.pieces(self.optimizer.accumulate), iteration)
        average_gradients(self.segmenter.parameters())
        for accumulator in objective.accumulators.values():
            accumulator.update_gradients()
        return terms | objective.backward_penalties()

    @property
    def _iterations(self) -> int:
        return iterations(self.data.images, self.optimizer.batch_size, self.data.replayed)

    def _batches(self, epoch: int) -> Generator[Batch]:
        size, normalization = self.optimizer.batch_size, self.segmenter.normalization
        return self.data.batches(epoch, self.augmentation, size, self.device, normalization)

    def _lr(self, count: int, iteration: int, factor: float) -> float:
        return self.optimizer.lr(factor * self.data.lr, iteration, self.data.epochs * count)


def _state(trainer: Trainer, running: TrainingState) -> dict[str, Any]:
    """Returns everything that changes during training but the rows; not copied."""
    return {**running.state, "model": trainer.segmenter.state_dict()}


def _measured(
    trainer: Trainer, validation: Validation | None, epoch: int, progress: Progress
) -> EpochRow:
    """Returns the measurements after an epoch, counted from 0; none if it is not due."""
    if validation is None or not validation.is_due(epoch + 1, trainer.data.epochs):
        return {}
    return validation.measure(trainer.segmenter, trainer.device, progress)


def _context(
    segmenter: Segmenter,
    weights: Mapping[str, Parameter],
    data: StepData,
    count: int,
    device: torch.device,
) -> StatisticContext:
    return StatisticContext(
        index=data.index,
        weights=weights,
        outputs=segmenter.outputs,
        num_old=data.num_old,
        depth=segmenter.extractor.last_stage_channels,
        previous=None,
        channels=segmenter.extractor.channels,
        iterations=count,
        device=device,
    )


def _pretuning(trainer: Trainer) -> Pretuning:
    return Pretuning(
        init=trainer.method.classifier_init,
        segmenter=trainer.segmenter,
        num_old=trainer.data.num_old,
        images=trainer.data.images,
        step=trainer.data.step,
        stream=(trainer.data.seed, trainer.data.index),
        optimizer=trainer.optimizer,
        augmentation=trainer.augmentation,
        device=trainer.device,
    )
