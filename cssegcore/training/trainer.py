"""One incremental step, trained: the loop that knows no method.

Nothing here is drawn from a running generator: order, views and new weights depend on the seed, the
step and the epoch alone, so that a training that goes on after a kill sees what it would have seen.
"""

import contextlib
import dataclasses
import functools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import Parameter

from cssegcore.core.errors import InputError
from cssegcore.data.augmentation import Augmentation
from cssegcore.data.batch import Batch
from cssegcore.data.batches import Replayed, iterations, smallest_batch, training_batches
from cssegcore.data.image_store import ImageStore
from cssegcore.data.prefetch import prefetch
from cssegcore.method.losses import Loss, LossInputs, PenaltyInputs
from cssegcore.method.method import AUXILIARY, Method
from cssegcore.method.statistics import Accumulator, StatisticContext
from cssegcore.models.checkpoint import Model, Statistics
from cssegcore.models.inference import infer
from cssegcore.models.outputs import Outputs
from cssegcore.models.segmenter import Segmenter
from cssegcore.runtime.device import peak_memory, to_device
from cssegcore.runtime.distributed import (
    all_gather,
    all_reduce_sum,
    average_gradients,
    broadcast,
    world,
)
from cssegcore.runtime.resume import ResumeFile
from cssegcore.training.batchnorm import synchronised, undisturbed
from cssegcore.training.compile import compile_extractors
from cssegcore.training.loss_scaling import Factors, check_pieces, factors
from cssegcore.training.optimizer import Optimizer
from cssegcore.training.sgd import Sgd

Row = dict[str, float]
"""One epoch: `epoch` (from 1), `lr` at its end, `loss` and each term, as means over iterations."""


@dataclasses.dataclass(frozen=True)
class Task:
    """What to train: everything of one step but its weights.

    Attributes:
        step: Name, for messages; `index` is its place.
        index: Place of the step, 0 the base.
        epochs: Passes over the images.
        lr: Learning rate at the first iteration.
        seed: Of the whole run.
        images: The step's images.
        replayed: Those of earlier steps, or none.
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


@dataclasses.dataclass(frozen=True)
class Hooks:
    """How the world outside follows a training.

    Attributes:
        epoch: Called with every finished epoch's row, also with those before a resume.
        progress: Wraps the iterable of batches of an epoch (second argument: how many).
    """

    epoch: Callable[[Row], None]
    progress: Callable[[Iterable[Batch], int], Iterable[Batch]]


@dataclasses.dataclass(frozen=True)
class Trained:
    """What a training leaves beside the network.

    Attributes:
        rows: One for each epoch.
        statistics: What was gathered.
        peak_memory: See `device.peak_memory`; of the process that took most.
    """

    rows: list[Row]
    statistics: Statistics
    peak_memory: float


@dataclasses.dataclass(frozen=True)
class Job:
    """A training ready to run.

    Attributes:
        segmenter: The network with the step's head, trained in place, on `device`.
        model: What its file will say of it.
        old: The model of the step before in evaluation mode, or none.
        all_gather: What the step before saved of each statistic.
        rates: Factors of the learning rate by the weight's name, 1 for those not named.
        task: What to train.
        method: The parts that act.
        optimizer: How weights move.
        augmentation: How images are seen.
        device: Where it runs.
        teachers: The models that made the replayed images, if terms ask what they say of them.
    """

    segmenter: Segmenter
    model: Model
    old: Segmenter | None
    gathered: Statistics
    rates: Mapping[str, float]
    task: Task
    method: Method
    optimizer: Optimizer
    augmentation: Augmentation
    device: torch.device
    teachers: Sequence[Segmenter] = ()

    def compile(self) -> None:
        """Has the extractors of its networks compiled; see `compiling`."""
        compile_extractors(self.segmenter, self.old, self.teachers, self.device)

    def train(self, resume: ResumeFile, hooks: Hooks) -> Trained:
        """Trains `segmenter` in place, together with the processes that
        `distributed.process_group`.

        Args:
            resume: Where the state goes after each epoch, from the first process; removed by the
                caller once the result is safe.
            hooks: Who follows; called in every process.

        Raises:
            FloatingPointError: The loss or a weight is not finite; nothing of that epoch is kept.
            InputError: The resume file is damaged, or a batch has too few images to be shared.
        """
        batch = smallest_batch(self.task.images, self.optimizer.batch_size, self.task.replayed)
        check_pieces(self.task.step, batch, self.optimizer.accumulate)
        broadcast(self.segmenter.state_dict().values())
        running = self._begin()
        rows = self._restore(running, resume)
        for row in rows:
            hooks.epoch(row)
        self.segmenter.train()
        with synchronised(self.segmenter):
            for epoch in range(len(rows), self.task.epochs):
                row = self._epoch(running, hooks, epoch)
                rows.append(row)
                if world().is_main:
                    state = {**running.state, "model": self.segmenter.state_dict()}
                    resume.save({**state, "rows": rows})
                hooks.epoch(row)
        statistics = {name: g.result() for name, g in running.accumulators.items()}
        return Trained(rows, statistics, max(all_gather(peak_memory(self.device))))

    def _begin(self) -> "_Running":
        weights = {n: p for n, p in self.segmenter.named_parameters() if p.requires_grad}
        groups: dict[float, list[Parameter]] = {}
        for name, weight in weights.items():
            factor = self.rates.get(name, 1.0)
            if name.startswith("extractor.backbone."):
                factor *= self.optimizer.backbone_lr
            groups.setdefault(factor, []).append(weight)
        how = self.optimizer
        sgd = Sgd(groups, momentum=how.momentum, weight_decay=how.weight_decay)
        accumulators = {
            name: statistic.start(
                StatisticContext(
                    index=self.task.index,
                    weights=weights,
                    outputs=self.segmenter.outputs,
                    num_old=self.task.num_old,
                    depth=self.segmenter.extractor.last_stage_channels,
                    before=self.gathered.get(name),
                )
            )
            for name, statistic in self.method.statistics.items()
        }
        old = dict(self.old.named_parameters()) if self.old else {}
        held = {
            name: PenaltyInputs(
                weights, old, term.importance(self.gathered.get(term.statistic, {}))
            )
            for name, term in self.method.penalties.items()
        }
        return _Running(sgd, accumulators, held)

    def _restore(self, running: "_Running", resume: ResumeFile) -> list[Row]:
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

    def _epoch(self, running: "_Running", hooks: Hooks, epoch: int) -> Row:
        task, optimizer, size = self.task, self.optimizer, self.optimizer.batch_size
        rng = np.random.default_rng([task.seed, task.index, epoch])
        batches = training_batches(
            task.images,
            self.augmentation,
            size,
            rng,
            self.device,
            self.segmenter.normalization,
            task.replayed,
            world(),
        )
        if self.device.type == "cuda":
            batches = prefetch(batches)
        count = iterations(task.images, size)
        sums: dict[str, Tensor] = {}

        def rate(factor: float, at: int) -> float:
            return optimizer.lr(factor * task.lr, epoch * count + at, task.epochs * count)

        with contextlib.closing(batches):
            for at, batch in enumerate(hooks.progress(batches, count)):
                running.sgd.zero_grad()
                terms = self._backward(running, batch)
                if optimizer.clip:
                    torch.nn.utils.clip_grad_norm_(self.segmenter.parameters(), optimizer.clip)
                running.sgd.step(functools.partial(rate, at=at))
                loss = torch.stack(list(terms.values())).sum()
                for name, value in {"loss": loss, **terms}.items():  # kept on the device: no sync
                    sums[name] = sums.get(name, torch.zeros_like(value)) + value
        size = world().size
        means = {name: float(all_reduce_sum(value)) / size / count for name, value in sums.items()}
        # the last update is in no loss yet
        weights = torch.stack([w.isfinite().all() for w in self.segmenter.state_dict().values()])
        if not (all(map(math.isfinite, means.values())) and weights.all()):
            raise FloatingPointError(
                f"{task.step}, epoch {epoch + 1}: the loss or a weight is not finite ({means})."
                f" Lower `steps.{task.step}.lr` or set `optimizer.clip`."
            )
        return {"epoch": float(epoch + 1), "lr": rate(1.0, count - 1), **means}

    def _backward(self, running: "_Running", batch: Batch) -> dict[str, Tensor]:
        """Fills the gradients of one batch and returns the weighted terms, detached."""
        pieces, penalties = batch.pieces(self.optimizer.accumulate), self.method.penalties
        each = [
            self._piece(running, piece, counts)
            for piece, counts in zip(pieces, factors(self.method, pieces), strict=True)
        ]
        terms = {n: sum((more[n] for more in each[1:]), first) for n, first in each[0].items()}
        average_gradients(self.segmenter.parameters())
        for accumulator in running.accumulators.values():
            accumulator.update_gradients()
        pulls = {name: p.weight * p(running.held[name]) for name, p in penalties.items()}
        if pulls:
            torch.stack(list(pulls.values())).sum().backward()
        return {**terms, **{name: value.detach() for name, value in pulls.items()}}

    def _piece(self, running: "_Running", batch: Batch, counts: Factors) -> dict[str, Tensor]:
        """Adds the gradients of a batch, or of a piece of one, and returns its terms, detached."""
        method, accumulators = self.method, running.accumulators
        new, old = self._forward(batch, method.losses)
        for accumulator in accumulators.values():
            accumulator.update_batch(new, batch.annotated)
        statistics = {
            s: accumulators[s].state for t in method.losses.values() if (s := t.statistic)
        }
        seen = LossInputs(new, old, batch.labels, batch.annotated, self.task.num_old, statistics)
        terms = {name: counts[name] * loss(seen) for name, loss in method.losses.items()}
        terms |= self._auxiliary(seen, counts) | self._replayed(batch, counts)
        torch.stack(list(terms.values())).sum().backward()
        return {name: value.detach() for name, value in terms.items()}

    def _auxiliary(self, seen: LossInputs, counts: Factors) -> dict[str, Tensor]:
        """Teaches the annotated classes to auxiliary classifiers as to the main one."""
        weight = self.segmenter.extractor.auxiliary_weight
        passes = [
            dataclasses.replace(seen, new=dataclasses.replace(seen.new, logits=logits))
            for logits in seen.new.auxiliary
            if logits.requires_grad
        ]
        if not passes:
            return {}
        losses = [(n, loss) for n, loss in self.method.losses.items() if loss.is_supervised]
        terms = [weight * counts[name] * loss(at) for name, loss in losses for at in passes]
        return {AUXILIARY: torch.stack(terms).sum()}

    def _replayed(self, batch: Batch, counts: Factors) -> dict[str, Tensor]:
        """Runs the replayed batch, if there is one, through the network on its own."""
        replayed, losses = batch.replayed, self.method.replayed
        if replayed is None:
            return {}
        moves = self.method.replay.moves_statistics
        with contextlib.nullcontext() if moves else undisturbed(self.segmenter):
            new, _ = self._forward(replayed, {})
        teacher_scores = self._teacher_scores(replayed) if self.teachers else None
        labels, num_old = replayed.labels, self.task.num_old
        seen = LossInputs(new, None, labels, labels, num_old, teacher_scores=teacher_scores)
        return {name: counts[name] * loss(seen) for name, loss in losses.items()}

    def _teacher_scores(self, replayed: Batch) -> Float[Tensor, "b k h w"]:
        """Has each image's teacher score it; classes that it does not know score -inf."""
        images = replayed.images
        known = max(teacher.outputs for teacher in self.teachers)
        size = (len(images), known, *images.shape[-2:])
        teacher_scores = torch.full(size, -math.inf, device=self.device)
        assert replayed.sources is not None
        for at, teacher in enumerate(self.teachers):
            mine = to_device(np.flatnonzero(replayed.sources == at), self.device)
            if len(mine):
                with self._precision():
                    scores = infer(teacher, images[mine]).logits
                teacher_scores[mine, : scores.shape[1]] = scores
        return teacher_scores

    def _precision(self) -> torch.autocast:
        kind = self.device.type
        on = self.optimizer.amp and kind == "cuda"
        return torch.autocast(kind, torch.bfloat16, enabled=on)

    def _forward(self, batch: Batch, losses: Mapping[str, Loss]) -> tuple[Outputs, Outputs | None]:
        old = None
        with self._precision():
            if self.old is not None and any(t.needs_old for t in losses.values()):
                old = infer(self.old, batch.images)
            return self.segmenter(batch.images), old


@dataclasses.dataclass(frozen=True)
class _Running:
    """What changes during a training beside the network."""

    sgd: Sgd
    accumulators: Mapping[str, Accumulator]
    held: Mapping[str, PenaltyInputs]

    @property
    def state(self) -> dict[str, Any]:
        all_gather = {name: accumulator.state for name, accumulator in self.accumulators.items()}
        return {"velocities": self.sgd.state, "gathered": all_gather}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.sgd.state = state["velocities"]
        for name, accumulator in self.accumulators.items():
            accumulator.state = state["gathered"][name]
