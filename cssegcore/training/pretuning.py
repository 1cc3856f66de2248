"""The training of a new head alone, before a step's own training, if `classifier_init` asks for it.

Random numbers depend on seed, step and epoch, in streams of their own. A kill in here repeats it; a
kill later goes on from the network as it left this.
"""

import contextlib
import dataclasses
import functools
from collections.abc import Generator, Iterator

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.func import functional_call

from cssegcore.core.errors import InputError
from cssegcore.core.types import Progress, UpdateFactors
from cssegcore.data.augmentation import Augmentation
from cssegcore.data.batch import Batch
from cssegcore.data.batches import iterations, training_batches
from cssegcore.data.image_store import ImageStore
from cssegcore.method.classifier_init import ClassifierInit, Tuning
from cssegcore.method.losses.unbiased_ce import UnbiasedCrossEntropy, unbiased_cross_entropy
from cssegcore.models.segmenter import Segmenter
from cssegcore.runtime.distributed import all_gather, all_reduce_sum, average_gradients, world
from cssegcore.runtime.resume import ResumeFile
from cssegcore.runtime.seeding import seeded
from cssegcore.training.batchnorm import synchronized
from cssegcore.training.finite import check_finite
from cssegcore.training.loss_scaling import PieceLabels, loss_scales
from cssegcore.training.optimizer import Optimizer

LOOK, TUNE = 1, 2
"""Last number of a stream of random numbers; the streams of the step's own training have none."""


@dataclasses.dataclass(frozen=True)
class Pretuning:
    """The training of a new head, ready to run.

    It shows every image of the step once to the head's `Tuning`, and trains that for the epochs of
    `init`, by unbiased cross-entropy on the annotated labels. No other weight moves, but running
    statistics of normalisations do, which are in training mode. Replayed images take no part.

    Attributes:
        init: Says for how long, if at all.
        segmenter: The network, changed in place.
        num_old: Outputs of the old model.
        images: The step's own images.
        step: Its name, for messages.
        stream: Seed of the run and index of the step.
        optimizer: The step's; a fresh state of it is used.
        augmentation: The step's.
        device: The device of the network.
    """

    init: ClassifierInit
    segmenter: Segmenter
    num_old: int
    images: ImageStore
    step: str
    stream: tuple[int, int]
    optimizer: Optimizer
    augmentation: Augmentation
    device: torch.device

    def run(self, kept: ResumeFile, progress: Progress) -> None:
        """Trains the new head, together with all processes; nothing if `init` has no epochs.

        Args:
            kept: File for the network afterwards, written by the first process.
            progress: Wraps the iterable of batches of an epoch (second argument: their number).

        Raises:
            FloatingPointError: The loss or a number is not finite.
            InputError: The file is damaged, or not every process finds the same.
        """
        if not self.init.epochs:
            return
        state = kept.load(self.device)
        if len({*all_gather(state is None)}) > 1:
            raise InputError(
                f"not every process finds the resume file {kept.path}: put it on a disk that all of"
                " them see, or delete it."
            )
        if state is not None:
            self.segmenter.load_state_dict(state["model"])
            return
        tuning = self.init.tuning(self.segmenter.groups)
        self._look(tuning, progress)
        tuning.start()
        with _still(self.segmenter), synchronized(self.segmenter.train()):
            self._tune(tuning, progress)
        tuning.install()
        if world().is_main:
            kept.save({"model": self.segmenter.state_dict()})

    @torch.no_grad()
    def _look(self, tuning: Tuning, progress: Progress) -> None:
        segmenter = self.segmenter.eval()
        count = iterations(self.images, self.optimizer.batch_size)
        with contextlib.closing(self._batches(0, LOOK)) as batches:
            for batch in progress(batches, count):
                with self._autocast():
                    outputs = segmenter(batch.images)
                tuning.look(outputs, batch.annotated)

    def _tune(self, tuning: Tuning, progress: Progress) -> None:
        count = iterations(self.images, self.optimizer.batch_size)
        weights = list(tuning.parameters())
        updater = self.optimizer.start({UpdateFactors(): weights})
        lr = functools.partial(self._lr, self.init.epochs * count)
        for epoch in range(self.init.epochs):
            total = torch.zeros((), device=self.device)
            drawn = seeded(*self.stream, epoch, world().rank, TUNE, device=self.device)
            with drawn, contextlib.closing(self._batches(epoch, TUNE)) as batches:  # dropout draws
                for at, batch in enumerate(progress(batches, count), epoch * count):
                    updater.zero_grad()
                    total += self._gradients(tuning, batch)
                    average_gradients(weights)
                    if self.optimizer.clip:
                        torch.nn.utils.clip_grad_norm_(weights, self.optimizer.clip)
                    updater.step(functools.partial(lr, at))
            mean = float(all_reduce_sum(total)) / world().size / count
            tensors, rate = tuning.state_dict(), "`method.classifier_init.lr`"
            check_finite(self.step, epoch, {"pre-tuning": mean}, tensors, rate)

    def _lr(self, iterations: int, iteration: int, factor: float) -> float:
        return self.optimizer.lr(factor * self.init.lr, iteration, iterations)

    def _gradients(self, tuning: Tuning, batch: Batch) -> Float[Tensor, ""]:
        """Adds the gradients of the loss of a batch and returns it, detached."""
        names = {weight: name for name, weight in self.segmenter.named_parameters()}
        pieces = list(batch.pieces(self.optimizer.accumulate))
        labels = [PieceLabels(piece.annotated, piece.annotated) for piece in pieces]
        scales = loss_scales({"": UnbiasedCrossEntropy()}, labels)
        total = torch.zeros((), device=self.device)
        for piece, scale in zip(pieces, scales, strict=True):
            stand_ins = {names[weight]: value for weight, value in tuning.replaced().items()}
            with self._autocast():
                outputs = functional_call(self.segmenter, stand_ins, (piece.images,))
            loss = unbiased_cross_entropy(outputs.logits, piece.annotated, self.num_old)
            scaled = scale[""] * loss
            scaled.backward()
            total += scaled.detach()
        return total

    def _batches(self, epoch: int, kind: int) -> Generator[Batch]:
        return training_batches(
            self.images,
            self.augmentation,
            self.optimizer.batch_size,
            np.random.default_rng([*self.stream, epoch, kind]),
            self.device,
            self.segmenter.normalization,
            world=world(),
            join_rest=kind == LOOK,
        )

    def _autocast(self) -> torch.autocast:
        enabled = self.optimizer.amp and self.device.type == "cuda"
        return torch.autocast(self.device.type, torch.bfloat16, enabled=enabled)


@contextlib.contextmanager
def _still(segmenter: Segmenter) -> Iterator[None]:
    """No weight of the network asks for a gradient, inside this context."""
    learning = [weight for weight in segmenter.parameters() if weight.requires_grad]
    segmenter.requires_grad_(False)
    try:
        yield
    finally:
        for weight in learning:
            weight.requires_grad_(True)
