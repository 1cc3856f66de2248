"""STAR's binary cross-entropy: the step's pixels, and the share of old ones that they lack.

Chen et al., Saving 100x Storage: Prototype Replay for Reconstructing Training Sample Distribution
in Class-Incremental Semantic Segmentation (STAR), NeurIPS 2023; jinpeng0528/STAR,
trainer/trainer_voc.py.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import ClassVar, Literal, final

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from cssegcore.core.precision import at_least_float32
from cssegcore.core.ranges import non_negative, positive
from cssegcore.core.tensors import Tensors
from cssegcore.core.types import BACKGROUND, Scores
from cssegcore.method._old_regions import RAW_THRESHOLD, centre_pixels, old_classes_are_seen
from cssegcore.method.losses._base import Loss, LossInputs
from cssegcore.method.losses.mbce import new_class_cross_entropy
from cssegcore.runtime.distributed import all_reduce_sum
from cssegcore.runtime.draws import Draws

HELD = 2**16
"""Vectors that are held in memory at once. A short step after a long one replays millions."""


def replayed_features(
    gathered: Tensors,
    classes: Int[Tensor, " r"],
    direction: Float[Tensor, "r d"],
    length: Float[Tensor, "r l"],
) -> Float[Tensor, "r d"]:
    """Makes (p + s·ε)·(μ + σ·η) of each class's prototype p, spread s, mean length μ, deviation σ.

    Nothing is clipped, though features are not negative; as released.

    Args:
        gathered: `prototypes`, `spread` and `norms`, as `class_features` saves them.
        classes: Class of each vector, 0 the first.
        direction: ε, standard normal.
        length: η, standard normal: one a vector (l = 1), or one a channel.
    """
    mean, deviation = gathered["norms"][:, classes, None]
    pointing = gathered["prototypes"][classes] + gathered["spread"][classes] * direction
    return pointing * (mean + deviation * length)


def background_positions(
    annotated: Int[Tensor, "b h w"],
    old_logits: Float[Tensor, "b k h w"],
    size: tuple[int, int],
    threshold: float = RAW_THRESHOLD,
) -> Bool[Tensor, "b hs ws"]:
    """Returns the mask of positions without a class, by labels and by the old model.

    Both are read at `centre_pixels` of `size`.
    """
    seen = old_classes_are_seen(centre_pixels(old_logits, size), threshold)
    return (centre_pixels(annotated, size) == BACKGROUND) & ~seen


def summed_no(logits: Float[Tensor, "*n c"]) -> Float[Tensor, "*n"]:
    """Sums the cross-entropy of negatives, softplus(z), over the outputs."""
    return F.softplus(at_least_float32(logits)).sum(-1)


@final
@dataclasses.dataclass(frozen=True)
class ReplayedCrossEntropy(Loss):
    """(own + r · replay + q · background) / (1 + r + q), of new outputs alone.

    own: `new_class_cross_entropy` of the step's pixels. replay: the mean `summed_no` of R vectors
    of old classes. background: the mean `summed_no` at the Q positions that show no class.
    r = R / S and q = e Q / S, for S places of the batch and the statistic's `extra_background` e.
    Without replay and background their terms are 0, where the released code divides by 0.

    A batch in pieces shares the vectors; each piece divides by its own Q.

    Attributes:
        positive: Weight of a positive output of the step's pixels (VOC 4, ADE20K 30).
        length: Whether each replayed vector has one length (`intended`), or, as `released`, each
            channel has its own, so that lengths average out.
        raw_threshold: See `class_features`.
    """

    positive: float = 4.0
    length: Literal["intended", "released"] = "intended"
    raw_threshold: float = RAW_THRESHOLD

    needs_old: ClassVar[bool] = True
    statistic: ClassVar[str] = "class_features"
    scores: ClassVar[Scores | None] = "sigmoid"
    is_supervised: ClassVar[bool] = True
    expects_background_at_0: ClassVar[bool] = True
    needs_new_classes: ClassVar[bool] = True
    reads_annotated: ClassVar[bool] = True
    reads_classifiers: ClassVar[bool] = True
    needs_linear_scores: ClassVar[bool] = True
    void_is_no: ClassVar[bool] = True
    reads_old_labels: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(positive=self.positive)
        non_negative(raw_threshold=self.raw_threshold)

    @property
    def reads_background(self) -> bool:
        return False

    def __call__(self, batch: LossInputs) -> Float[Tensor, ""]:
        own = new_class_cross_entropy(
            batch.logits, batch.annotated, batch.num_old, self.positive
        ).mean()
        logits_lowres = batch.new.logits_lowres[:, batch.num_old :]
        size = logits_lowres.shape[2], logits_lowres.shape[3]
        old_logits = batch.old_outputs.logits
        empty = background_positions(batch.annotated, old_logits, size, self.raw_threshold)
        no = torch.where(empty, summed_no(logits_lowres.movedim(1, -1)), 0).sum()
        replay, count = self._replay(batch)
        extra = batch.statistics[self.statistic]["extra_background"].to(own.dtype)
        places = empty.numel()
        parts = places * own + replay + extra * no, places + count + extra * empty.sum()
        total, weight = all_reduce_sum(torch.stack(parts))
        return total / weight

    def _replay(self, batch: LossInputs) -> tuple[Float[Tensor, ""], int]:
        """Returns the sum over this micro-batch's replayed vectors, and their number."""
        gathered, heads = batch.statistics[self.statistic], batch.head_weights
        weight, bias = (
            at_least_float32(layer[batch.num_old :]) for layer in (heads.weight, heads.bias)
        )
        total, count = weight.new_zeros(()), 0
        chunks = gathered["replayed"].split(HELD) if len(gathered["replayed"]) else ()
        for at, classes in enumerate(chunks):
            draws = batch.draws.numbered(at)
            mine = classes[draws.rows(len(classes))]
            make = functools.partial(self._vectors, gathered, mine, draws, len(classes))
            if len(chunks) == 1:
                total = total + _summed_over(weight, bias, make)
            else:  # made again for the backward pass, and not held until then
                more = checkpoint(
                    *(_summed_over, weight, bias, make),
                    use_reentrant=False,
                    preserve_rng_state=False,
                )
                assert isinstance(more, Tensor)
                total = total + more
            count += len(mine)
        return total, count

    def _vectors(
        self, gathered: Tensors, classes: Int[Tensor, " r"], draws: Draws, count: int
    ) -> Float[Tensor, "r d"]:
        """Draws this micro-batch's share of `count` vectors."""
        d = gathered["prototypes"].shape[1]
        columns = d + (1 if self.length == "intended" else d)
        normal = draws.normal(count, columns, classes.device)
        return replayed_features(gathered, classes, normal[:, :d], normal[:, d:])


def _summed_over(
    weight: Float[Tensor, "n d"],
    bias: Float[Tensor, " n"],
    make: Callable[[], Float[Tensor, "r d"]],
) -> Float[Tensor, ""]:
    with torch.autocast(weight.device.type, enabled=False):
        return summed_no(F.linear(make().to(weight.dtype), weight, bias)).sum()
