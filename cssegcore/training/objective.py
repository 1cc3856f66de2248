"""The objective of a training: one batch becomes weighted terms and their gradients.

Every weight of a term is applied in this file.
"""

import contextlib
import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import Parameter

from cssegcore.data.batches import Batch
from cssegcore.method.losses import LossInputs, Penalty, PenaltyInputs
from cssegcore.method.method import AUXILIARY, Method
from cssegcore.method.statistics import Accumulator, Statistic, StatisticContext
from cssegcore.models.checkpoint import Statistics
from cssegcore.models.inference import infer
from cssegcore.models.outputs import Outputs
from cssegcore.models.segmenter import Segmenter
from cssegcore.runtime.device import to_device
from cssegcore.runtime.distributed import world
from cssegcore.runtime.draws import Draws
from cssegcore.training.batchnorm import frozen_running_stats
from cssegcore.training.loss_scaling import PieceLabels, Scales, loss_scales

Terms = dict[str, Tensor]
"""Weighted terms by name, scalars."""


@dataclasses.dataclass(frozen=True)
class Objective:
    """The function that a training minimizes: a sum of weighted terms.

    * each loss of the method on the step's images: `weight · loss`;
    * `auxiliary`, each supervised loss on each auxiliary classifier:
      `auxiliary_weight · weight · loss`;
    * each loss on replayed images, if these are batches of their own: `weight · loss`;
    * each penalty on the weights: `weight · penalty`.

    If a batch is cut into micro-batches, or shared by processes, losses are multiplied by their
    scale as well (`loss_scaling`).

    Attributes:
        method: The losses, penalties and their weights.
        segmenter: The network in training.
        old: The previous step's model; none in a step that starts afresh, or if no term needs it.
        teachers: The models that the replayed images were inverted from, if a loss needs them.
        num_old: Outputs of the old model, 1 without one.
        accumulators: The statistics that are collected, by name.
        penalized: The input of each penalty, by name.
        bfloat16: Whether networks run under autocast to bfloat16; losses stay in float32.
        seed: Seed of the run, and place of the step; what losses draw depends on them and on the
            iteration alone.
    """

    method: Method
    segmenter: Segmenter
    old: Segmenter | None
    teachers: Sequence[Segmenter]
    num_old: int
    accumulators: Mapping[str, Accumulator]
    penalized: Mapping[str, PenaltyInputs]
    bfloat16: bool
    seed: tuple[int, int] = (0, 0)
    _lowres_sizes: dict[torch.Size, tuple[int, int]] = dataclasses.field(
        default_factory=dict, init=False, repr=False
    )

    def backward(self, pieces: Sequence[Batch], iteration: int = 0) -> Terms:
        """Adds the gradients of all losses of a batch, one micro-batch after the other.

        Args:
            pieces: The micro-batches of this process.
            iteration: Number of the batch, counted over all epochs.

        Returns:
            The losses of the batch, weighted and detached; of several processes, their mean is.
        """
        lowres = self._lowres(pieces)
        own = [PieceLabels(piece.labels, piece.annotated, lowres) for piece in pieces]
        scales = loss_scales(self.method.losses, own)
        replayed = [
            PieceLabels(more.labels, more.labels)
            for piece in pieces
            if (more := piece.replayed) is not None
        ]
        if replayed:
            other = loss_scales(self.method.replayed, replayed)
            scales = [{**own, **more} for own, more in zip(scales, other, strict=True)]
        draws = self._draws(iteration, len(pieces))
        each = [_backward(self._losses(*at)) for at in zip(pieces, scales, draws, strict=True)]
        return {n: sum((more[n] for more in each[1:]), first) for n, first in each[0].items()}

    def backward_penalties(self) -> Terms:
        """Adds the gradients of the penalties and returns them, weighted and detached."""
        penalties = self.method.penalties.items()
        terms = {name: p.weight * p(self.penalized[name]) for name, p in penalties}
        return _backward(terms) if terms else {}

    def _draws(self, iteration: int, pieces: int) -> list[Draws]:
        first, parts = world().rank * pieces, world().size * pieces
        return [Draws((*self.seed, iteration), first + at, parts) for at in range(pieces)]

    def _lowres(self, pieces: Sequence[Batch]) -> tuple[int, int] | None:
        """Measures the small maps of a batch in pieces, if a loss is a mean over such maps.

        The old model's are as large as the network's, and looking at one image changes nothing.
        """
        reads = any(loss.reads_lowres for loss in self.method.losses.values())
        if not reads or self.old is None or world().size == len(pieces) == 1:
            return None
        image = pieces[0].images[:1]
        if image.shape not in self._lowres_sizes:
            with self.autocast(image.device):
                height, width = infer(self.old, image).logits_lowres.shape[-2:]
            self._lowres_sizes[image.shape] = height, width
        return self._lowres_sizes[image.shape]

    def _losses(self, batch: Batch, scales: Scales, draws: Draws) -> Terms:
        """Runs the networks on a micro-batch and computes its losses."""
        new, old = self._forward(batch)
        for accumulator in self.accumulators.values():
            accumulator.update_batch(new, batch.annotated)
        losses = self.method.losses.items()
        statistics = {s: self.accumulators[s].state for _, loss in losses if (s := loss.statistic)}
        seen = LossInputs(
            new, old, batch.labels, batch.annotated, self.num_old, statistics, draws=draws
        )
        if any(loss.reads_classifiers for _, loss in losses):
            seen = dataclasses.replace(
                seen,
                classifiers=self.segmenter.classifiers(),
                old_classifiers=self.old.classifiers() if self.old else None,
            )
        terms = {name: loss.weight * scales[name] * loss(seen) for name, loss in losses}
        return terms | self._auxiliary(seen, scales) | self._replayed(batch.replayed, scales)

    def _forward(self, batch: Batch) -> tuple[Outputs, Outputs | None]:
        old = None
        with self.autocast(batch.images.device):
            if self.old is not None and any(t.needs_old for t in self.method.losses.values()):
                old = infer(self.old, batch.images)
            return self.segmenter(batch.images), old

    def _auxiliary(self, seen: LossInputs, scales: Scales) -> Terms:
        """Computes the supervised losses of the auxiliary classifiers."""
        factor = self.segmenter.extractor.auxiliary_weight
        passes = [
            dataclasses.replace(seen, new=dataclasses.replace(seen.new, logits=logits))
            for logits in seen.new.auxiliary
            if logits.requires_grad
        ]
        if not passes:
            return {}
        losses = [(n, loss) for n, loss in self.method.losses.items() if loss.is_supervised]
        weighted = [(factor * (loss.weight * scales[n]), loss) for n, loss in losses]
        terms = [weight * loss(at) for weight, loss in weighted for at in passes]
        return {AUXILIARY: torch.stack(terms).sum()}

    def _replayed(self, batch: Batch | None, scales: Scales) -> Terms:
        """Runs a replayed batch through the network on its own and computes its losses."""
        if batch is None:
            return {}
        moves = self.method.replay.moves_statistics
        statistics = contextlib.nullcontext() if moves else frozen_running_stats(self.segmenter)
        with statistics, self.autocast(batch.images.device):
            new = self.segmenter(batch.images)
        teacher_logits = self._teacher_logits(batch) if self.teachers else None
        seen = LossInputs(
            new, None, batch.labels, batch.labels, self.num_old, teacher_logits=teacher_logits
        )
        losses = self.method.replayed.items()
        return {name: loss.weight * scales[name] * loss(seen) for name, loss in losses}

    def _teacher_logits(self, replayed: Batch) -> Float[Tensor, "b k h w"]:
        """Scores each image by the model it was inverted from; classes unknown to it get -inf."""
        images, sources = replayed.images, replayed.sources
        known = max(teacher.outputs for teacher in self.teachers)
        size = (len(images), known, *images.shape[-2:])
        teacher_logits = torch.full(size, -math.inf, device=images.device)
        assert sources is not None
        for at, teacher in enumerate(self.teachers):
            mine = to_device(np.flatnonzero(sources == at), images.device)
            if len(mine):
                with self.autocast(images.device):
                    scores = infer(teacher, images[mine]).logits
                teacher_logits[mine, : scores.shape[1]] = scores
        return teacher_logits

    def autocast(self, device: torch.device) -> torch.autocast:
        """Returns the context that networks run in."""
        return torch.autocast(device.type, torch.bfloat16, enabled=self.bfloat16)


def _backward(terms: Terms) -> Terms:
    """Adds the gradients of the sum of terms, and returns these detached."""
    torch.stack(list(terms.values())).sum().backward()
    return {name: value.detach() for name, value in terms.items()}


def start_statistics(
    statistics: Mapping[str, Statistic], context: StatisticContext, saved: Statistics
) -> dict[str, Accumulator]:
    """Starts to collect statistics.

    Args:
        statistics: The parts by name.
        context: The training; its field `previous` is set here.
        saved: The statistics that the previous step saved, by name.
    """
    return {
        name: statistic.start(dataclasses.replace(context, previous=saved.get(name)))
        for name, statistic in statistics.items()
    }


def penalty_inputs(
    penalties: Mapping[str, Penalty],
    weights: Mapping[str, Parameter],
    old: Segmenter | None,
    saved: Statistics,
) -> dict[str, PenaltyInputs]:
    """Returns the input of each penalty, its importance computed once.

    Args:
        penalties: The penalties by name.
        weights: The weights in training by name.
        old: The previous step's model.
        saved: The statistics that the previous step saved, by name.
    """
    old_weights = dict(old.named_parameters()) if old else {}
    return {
        name: PenaltyInputs(weights, old_weights, term.importance(saved.get(term.statistic, {})))
        for name, term in penalties.items()
    }
