"""STAR's statistic: the direction, length and spread of each class's features, and how many.

Chen et al., Saving 100x Storage: Prototype Replay for Reconstructing Training Sample Distribution
in Class-Incremental Semantic Segmentation (STAR), NeurIPS 2023; jinpeng0528/STAR,
base/base_trainer.py and trainer/trainer_voc.py.
"""

import dataclasses
from collections.abc import Iterable
from typing import ClassVar, Literal, NamedTuple, final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cssegcore.core.precision import at_least_float32
from cssegcore.core.ranges import fraction, non_negative
from cssegcore.core.tensors import Tensors
from cssegcore.core.types import BACKGROUND, IGNORE, ClassSetting, Scores
from cssegcore.method._class_features import class_sums
from cssegcore.method._old_regions import RAW_THRESHOLD, centre_pixels, predicted_classes, unit
from cssegcore.method.statistics._base import (
    Accumulator,
    LabelledOutputs,
    Statistic,
    StatisticContext,
)
from cssegcore.runtime.distributed import all_reduce_sum

Spread = Literal["intended", "released"]
"""The prototype that a new class's spread is measured from: its own (`intended`), or an old class's
in increments (`released`)."""


class Measured(NamedTuple):
    """The features of some classes.

    Attributes:
        prototypes: Direction of each class: mean of the unit vectors, of length 1; 0 for a class
            without a pixel.
        norms: Mean and unbiased standard deviation of the lengths of its vectors; of fewer than two
            pixels the deviation is 0.
        spread: Root mean square, by channel, of the unit vectors' distances from a prototype.
    """

    prototypes: Float[Tensor, "n d"]
    norms: Float[Tensor, "2 n"]
    spread: Float[Tensor, "n d"]


class ReplaySchedule(NamedTuple):
    """Number of vectors that an iteration replays, and the pixel counts for the next step.

    Attributes:
        per_iteration: Number of vectors replayed for each old class.
        extra_background: Factor e in the weight e Q / S of the loss over the Q of a batch's S
            positions that show no class.
        background: Pixels of the earlier steps' background, without those of classes new in this
            step.
        counts: Pixels of the background and of each old class, handed on to the next step.
    """

    per_iteration: Int[Tensor, " n"]
    extra_background: Float[Tensor, ""]
    background: Float[Tensor, ""]
    counts: Float[Tensor, " k"]


def measure(
    sums: Float[Tensor, "n m"], counts: Int[Tensor, " n"], old: Float[Tensor, "_ d"], spread: Spread
) -> Measured:
    """Computes the saved features of each new class.

    Args:
        sums: Over the class's pixels, in float64: of the d channels of unit vectors, of the squares
            of these, of the vector's length and of its square.
        counts: Pixels of each class.
        old: Prototypes of the classes before.
        spread: See `Spread`. The released code takes row i of old and new prototypes, put together,
            for the i-th new class.
    """
    d, number = old.shape[1], counts.clamp(min=1)[:, None]
    directions, squares, lengths = (sums / number).tensor_split((d, 2 * d), dim=1)
    own = unit(directions, 1)
    origin = own if spread == "intended" else torch.cat([old.to(own.dtype), own])[: len(own)]
    around = squares - 2 * origin * directions + origin.square()
    around = torch.where(counts[:, None] > 0, around, 0).clamp(min=0)  # less than 0: rounding
    mean, square = lengths.unbind(1)
    bessel = number[:, 0] / (number[:, 0] - 1).clamp(min=1)
    deviation = ((square - mean.square()).clamp(min=0) * bessel).sqrt()
    return Measured(own.float(), torch.stack([mean, deviation]).float(), around.sqrt().float())


@final
@dataclasses.dataclass(frozen=True)
class ClassFeatures(Statistic):
    """The 2 d + 3 numbers from which STAR replays a class, its `counts` included.

    After training, one pass over the step's images, augmented as in training, measures
    `Features.decoder_out` at the middle pixels of its places (`centre_pixels`). It saves
    `prototypes` [n, d], `norms` [2, n] and `spread` [n, d] of all n classes seen (see `Measured`),
    and `counts` [1 + n] of pixels, the background's first. Rows of earlier classes are handed on as
    they are.

    Before an increment, a pass of the old model counts what it sees in the step's background
    (`predicted`), which decides how much is replayed (`replay_schedule`).

    Deviation: pixels of the step are counted in the pass after training, not in one of their own.

    Attributes:
        spread: See `Spread`.
        setting: Setting of the scenario; it decides which formulas count. Partitioned and listed
            images count as overlapped ones; of listed ones a recipe may say `disjoint`.
        raw_threshold: Logit (not sigmoid) above which the old model sees a class. The losses must
            have the same.
        future_share: Share of an old step's background that each new class was; assumed by the
            authors, not measured.
        shared_background: Share of the new background that is background of earlier steps too;
            assumed likewise.
    """

    spread: Spread = "intended"
    setting: ClassSetting = "overlapped"
    raw_threshold: float = RAW_THRESHOLD
    future_share: float = 0.01
    shared_background: float = 0.5

    needs_old_pass: ClassVar[bool] = True
    reads_old_as: ClassVar[Scores | None] = "sigmoid"
    expects_background_at_0: ClassVar[bool] = True
    needs_final_pass: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.setting == "sequential":
            raise ValueError(
                "`setting` 'sequential' annotates old classes, which STAR's counts take for hidden:"
                " set `scenario.setting` to disjoint or overlapped"
            )
        non_negative(raw_threshold=self.raw_threshold)
        fraction(future_share=self.future_share, shared_background=self.shared_background)

    def start(self, context: StatisticContext) -> Accumulator:
        return _Accumulator(self, context)

    def replay_schedule(
        self,
        counts: Float[Tensor, " k"],
        predicted: Int[Tensor, " k"],
        num_new: int,
        iterations: int,
    ) -> ReplaySchedule:
        """Computes the formulas of the setting.

        A batch shows an old class `predicted` / `iterations` times itself, and replays what is
        missing to the old rate, in whole vectors; disjoint images replay all of it. A step whose
        background is empty gives no extra background, where the released code divides by 0.

        Args:
            counts: Pixels that the previous step saved, the background's first.
            predicted: Pixels of this step's background by what the old model sees, 0 nothing.
            num_new: Classes that the step adds.
            iterations: Batches of an epoch.
        """
        background = counts[0]
        if self.setting == "disjoint":
            missing, kept, known = counts[1:], 0.0, counts[1:] + predicted[1:]
            told = predicted[0] + background
        else:
            background = background * (1 - self.future_share * num_new)
            missing, kept, known = counts[1:] - predicted[1:], self.shared_background, counts[1:]
            told = self.shared_background * predicted[0] + background
        rate = (missing / iterations).clamp(min=0).trunc().long()
        extra = (background / predicted[0].clamp(min=1) - kept).clamp(min=0)
        extra = torch.where(predicted[0] > 0, extra, 0)
        return ReplaySchedule(rate, extra, background, torch.cat([told[None], known]))


class _Accumulator(Accumulator):
    def __init__(self, part: ClassFeatures, context: StatisticContext) -> None:
        self.previous = context.previous or {}
        self._part, self._context = part, context
        n, d, device = context.num_old - 1, context.channels, context.device
        self._old = {
            "prototypes": torch.zeros(n, d, device=device),
            "norms": torch.zeros(2, n, device=device),
            "spread": torch.zeros(n, d, device=device),
            "counts": torch.zeros(1 + n, dtype=torch.float64, device=device),
        }
        if n:
            shapes = {name: tensor.shape for name, tensor in self._old.items()}
            self._old = context.rows_of_old_classes("class_features", shapes)
        self._predicted = torch.zeros(1 + n, dtype=torch.int64, device=device)
        self._replayed = torch.zeros(0, dtype=torch.int64, device=device)
        self._extra = torch.zeros((), dtype=torch.float64, device=device)
        added = context.outputs - context.num_old
        self._sums = torch.zeros(added + 1, 2 * d + 2, dtype=torch.float64, device=device)
        self._counts = torch.zeros(added + 1, dtype=torch.int64, device=device)

    @torch.no_grad()
    def prepare(self, batches: Iterable[LabelledOutputs]) -> None:
        predicted = torch.zeros_like(self._predicted)
        ids = torch.arange(len(predicted), device=predicted.device)[:, None]
        for outputs, labels in batches:
            size = outputs.features.decoder_out.shape[-2:]
            background = centre_pixels(labels, size) == BACKGROUND
            logits = centre_pixels(outputs.logits, size)
            seen = predicted_classes(logits, self._part.raw_threshold)
            predicted += (torch.where(background, seen, -1).flatten() == ids).sum(1)
        self._predicted = all_reduce_sum(predicted)
        schedule = self._schedule
        self._extra, rate = schedule.extra_background, schedule.per_iteration
        rate = rate * (self._old["prototypes"] != 0).any(1)  # not of a class that never was seen
        self._replayed = torch.arange(len(rate), device=rate.device).repeat_interleave(rate)

    @torch.no_grad()
    def conclude(self, batches: Iterable[LabelledOutputs]) -> None:
        self._sums, self._counts = torch.zeros_like(self._sums), torch.zeros_like(self._counts)
        for outputs, labels in batches:
            features = at_least_float32(outputs.features.decoder_out).double()
            length = features.norm(dim=1, keepdim=True)
            direction = unit(features, 1)
            seen = torch.cat([direction, direction.square(), length, length.square()], 1)
            labels = centre_pixels(labels, features.shape[-2:])
            sums, counts = class_sums(seen, self._places(labels), len(self._counts))
            self._sums, self._counts = self._sums + sums, self._counts + counts

    def _places(self, labels: Int[Tensor, "b h w"]) -> Int[Tensor, "b h w"]:
        """Numbers the background 0 and new classes from 1; others take no part."""
        new = (labels >= self._context.num_old) & (labels != IGNORE)
        place = torch.where(new, labels - (self._context.num_old - 1), IGNORE)
        return torch.where(labels == BACKGROUND, BACKGROUND, place)

    @property
    def _schedule(self) -> ReplaySchedule:
        added, count = len(self._counts) - 1, self._context.iterations
        return self._part.replay_schedule(self._old["counts"], self._predicted, added, count)

    @property
    def state(self) -> dict[str, Tensor]:
        beside = {"replayed": self._replayed, "extra_background": self._extra}
        return {**self._old, "predicted": self._predicted, **beside}

    @state.setter
    def state(self, state: Tensors) -> None:
        self._predicted, self._replayed = state["predicted"], state["replayed"]
        self._extra = state["extra_background"]

    def result(self) -> dict[str, Tensor]:
        old, counts = self._old, self._counts.double()
        new = measure(self._sums[1:], self._counts[1:], old["prototypes"], self._part.spread)
        if self._context.num_old > 1:
            counts = torch.cat([self._schedule.counts, counts[1:]])
        return {
            "prototypes": torch.cat([old["prototypes"], new.prototypes]),
            "norms": torch.cat([old["norms"], new.norms], 1),
            "spread": torch.cat([old["spread"], new.spread]),
            "counts": counts,
        }
