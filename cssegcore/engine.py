"""One incremental step, trained: the loop that knows no method.

Nothing here is drawn from a running generator: order, views and new weights depend on the seed, the
step and the epoch alone, so that a training that goes on after a kill sees what it would have seen.
"""

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cssegcore.checkpoint import Model
from cssegcore.data.augmentation import Augmentation
from cssegcore.data.batches import Batch, Images
from cssegcore.losses import Pass
from cssegcore.method import Method
from cssegcore.networks import Segmenter
from cssegcore.resume import ResumeFile
from cssegcore.sgd import Sgd

Row = dict[str, float]
"""One epoch: `epoch` (from 1), `lr` at its end, `loss` and each term, as means over iterations."""


@dataclasses.dataclass(frozen=True)
class Optimizer:
    """SGD with Nesterov momentum and a polynomial decay per iteration.

    Attributes:
        batch_size: Images an iteration.
        momentum: Of SGD.
        weight_decay: On every weight, norms and biases too, as the field does.
        power: lr at iteration i of n is `lr * (1 - i/n) ** power`.
        clip: Largest gradient norm; 0 clips nothing.
        amp: Whether CUDA runs convolutions in bfloat16; losses stay in float32.
    """

    batch_size: int
    momentum: float
    weight_decay: float
    power: float
    clip: float
    amp: bool

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"`batch_size` must be >= 1, got {self.batch_size}")
        if not 0 < self.momentum < 1:
            raise ValueError(f"`momentum` must lie in (0, 1) for Nesterov, got {self.momentum}")
        for name in ("weight_decay", "power", "clip"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"`{name}` must be >= 0, got {getattr(self, name)}")

    def lr(self, base: float, iteration: int, iterations: int) -> float:
        """Returns the learning rate of one iteration, counted from 0."""
        return base * (1 - iteration / iterations) ** self.power


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
        num_old: Outputs of the old model, 1 without one.
    """

    step: str
    index: int
    epochs: int
    lr: float
    seed: int
    images: Images
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
class Job:
    """A training ready to run.

    Attributes:
        segmenter: The network with the step's head, trained in place, on `device`.
        model: What its file will say of it.
        old: The model of the step before in evaluation mode, or none.
        task: What to train.
        method: The parts that act.
        optimizer: How weights move.
        augmentation: How images are seen.
        device: Where it runs.
    """

    segmenter: Segmenter
    model: Model
    old: Segmenter | None
    task: Task
    method: Method
    optimizer: Optimizer
    augmentation: Augmentation
    device: torch.device

    def train(self, resume: ResumeFile, hooks: Hooks) -> list[Row]:
        """Trains `segmenter` and returns a row for each epoch.

        Args:
            resume: Where the state goes after each epoch; removed by the caller once the result is
                safe.
            hooks: Who follows.

        Raises:
            FloatingPointError: The loss or a weight is not finite; nothing of that epoch is kept.
            InputError: The resume file is damaged.
        """
        sgd = Sgd(
            self.segmenter.parameters(),
            momentum=self.optimizer.momentum,
            weight_decay=self.optimizer.weight_decay,
        )
        rows = self._restore(sgd, resume)
        for row in rows:
            hooks.epoch(row)
        images, size = self.task.images, self.optimizer.batch_size
        for epoch in range(len(rows), self.task.epochs):
            rng = np.random.default_rng([self.task.seed, self.task.index, epoch])
            batches = images.epoch(self.augmentation, size, rng, self.device)
            count = images.iterations(size)
            row = self._epoch(sgd, hooks.progress(batches, count), count, epoch)
            rows.append(row)
            state = {"model": self.segmenter.state_dict(), "velocities": sgd.state, "rows": rows}
            resume.save(state)
            hooks.epoch(row)
        return rows

    def _restore(self, sgd: Sgd, resume: ResumeFile) -> list[Row]:
        state: Mapping[str, Any] | None = resume.load(self.device)
        if state is None:
            return []
        self.segmenter.load_state_dict(state["model"])
        sgd.state = state["velocities"]
        return state["rows"]

    def _epoch(self, sgd: Sgd, batches: Iterable[Batch], count: int, epoch: int) -> Row:
        self.segmenter.train()
        task, optimizer = self.task, self.optimizer
        sums: dict[str, Tensor] = {}
        lr = task.lr
        for at, batch in enumerate(batches):
            lr = optimizer.lr(task.lr, epoch * count + at, task.epochs * count)
            terms = self._terms(batch)
            loss = torch.stack(list(terms.values())).sum()
            sgd.zero_grad()
            loss.backward()
            if optimizer.clip:
                torch.nn.utils.clip_grad_norm_(self.segmenter.parameters(), optimizer.clip)
            sgd.step(lr)
            for name, value in {"loss": loss, **terms}.items():  # kept on the device: no sync
                sums[name] = sums.get(name, torch.zeros_like(value)) + value.detach()
        means = {name: float(total) / count for name, total in sums.items()}
        # the last update is in no loss yet
        weights = torch.stack([w.isfinite().all() for w in self.segmenter.state_dict().values()])
        if not (all(map(math.isfinite, means.values())) and weights.all()):
            raise FloatingPointError(
                f"{task.step}, epoch {epoch + 1}: the loss or a weight is not finite ({means})."
                f" Lower `steps.{task.step}.lr` or set `optimizer.clip`."
            )
        return {"epoch": float(epoch + 1), "lr": lr, **means}

    def _terms(self, batch: Batch) -> dict[str, Tensor]:
        """Computes the weighted terms of one batch."""
        kind, losses = self.device.type, self.method.losses
        old_logits = None
        with torch.autocast(kind, torch.bfloat16, enabled=self.optimizer.amp and kind == "cuda"):
            if self.old is not None and any(loss.needs_old for loss in losses.values()):
                with torch.no_grad():
                    old_logits = self.old(batch.images)
            logits = self.segmenter(batch.images)
        seen = Pass(logits, old_logits, batch.labels, self.task.num_old)
        return {name: loss.weight * loss(seen) for name, loss in losses.items()}
