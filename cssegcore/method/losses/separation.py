"""STAR's SAD: new classes point away from the nearest old one.

Chen et al., Saving 100x Storage: Prototype Replay for Reconstructing Training Sample Distribution
in Class-Incremental Semantic Segmentation (STAR), NeurIPS 2023; jinpeng0528/STAR, models/loss.py.
"""

import dataclasses
from typing import ClassVar, final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cssegcore.core.precision import at_least_float32
from cssegcore.core.types import Scores
from cssegcore.method._old_regions import reduced, unit
from cssegcore.method.losses._base import Loss, LossInputs
from cssegcore.runtime.distributed import all_reduce_sum

_EPS = 1e-12
"""Least squared distance: a class on top of an old one counts 1e6, and not infinity."""


def separation(
    features: Float[Tensor, "b d hs ws"],
    labels: Int[Tensor, "b h w"],
    prototypes: Float[Tensor, "n d"],
    num_old: int,
    num_new: int,
) -> Float[Tensor, ""]:
    """Computes the mean of one over the distance from the nearest old prototype, over new classes.

    A class's direction is that of the sum of its unit vectors in the batch. A class that the batch
    does not show has none, so its distance is 1 and it adds a constant, as released. Old classes
    that were never seen have no prototype and are near to nothing.

    Args:
        features: Features of the network in training.
        labels: Labels as annotated, 255 void.
        prototypes: Vectors of length 1, or 0; no gradient reaches them.
        num_old: Output of the first new class.
        num_new: Number of new classes.
    """
    wide = at_least_float32(features)
    size, known = features.shape[-2:], prototypes.detach().to(wide.dtype)
    outputs = range(num_old, num_old + num_new)
    # one class at a time: full-size maps of all would take much memory
    share = torch.stack([reduced(labels == output, size) for output in outputs], 1)
    with torch.autocast(features.device.type, enabled=False):
        directions = unit(wide, 1).flatten(2)
        sums = torch.bmm(share.to(wide.dtype).flatten(2), directions.mT).sum(0)
    own = unit(all_reduce_sum(sums), 1)
    squared = (own[:, None] - known).square().sum(2)
    squared = torch.where((known != 0).any(1), squared, torch.inf).amin(1)
    return squared.clamp(min=_EPS).rsqrt().mean()


@final
@dataclasses.dataclass(frozen=True)
class Separation(Loss):
    """`separation` as a term. The published weight is 0.05."""

    needs_old: ClassVar[bool] = True  # its prototypes, in fact
    statistic: ClassVar[str] = "class_features"
    reads_old_as: ClassVar[Scores | None] = "sigmoid"
    needs_new_classes: ClassVar[bool] = True
    expects_background_at_0: ClassVar[bool] = True
    acts_on_features: ClassVar[bool] = True

    def __call__(self, batch: LossInputs) -> Float[Tensor, ""]:
        prototypes = batch.statistics[self.statistic]["prototypes"]
        added = batch.logits.shape[1] - batch.num_old
        features = batch.new.features.decoder_out
        return separation(features, batch.annotated, prototypes, batch.num_old, added)
