"""STAR's OCFM: features stay as they were where the old model sees old classes.

Chen et al., Saving 100x Storage: Prototype Replay for Reconstructing Training Sample Distribution
in Class-Incremental Semantic Segmentation (STAR), NeurIPS 2023; jinpeng0528/STAR, models/loss.py,
where it is called PKD.
"""

import dataclasses
from typing import ClassVar, final

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from cssegcore.core.precision import at_least_float32
from cssegcore.core.ranges import non_negative
from cssegcore.core.types import BACKGROUND, Scores
from cssegcore.method._old_regions import RAW_THRESHOLD, old_classes_are_seen, reduced
from cssegcore.method.losses._base import Loss, LossInputs
from cssegcore.runtime.distributed import all_reduce_sum


def held_features(
    features: Float[Tensor, "b d hs ws"],
    old_features: Float[Tensor, "b d hs ws"],
    region: Bool[Tensor, "b h w"],
) -> Float[Tensor, ""]:
    """Computes the mean squared difference inside the region, over channels and places.

    A place counts by its share of the region. Without a region the released code gives NaN, and
    this 0.
    """
    share = reduced(region, features.shape[-2:])[:, None]
    moved = at_least_float32(features) - at_least_float32(old_features)
    parts = (share * moved.square()).sum(), features.shape[1] * share.sum()
    total, weight = all_reduce_sum(torch.stack([part.to(moved.dtype) for part in parts]))
    return total / torch.where(weight > 0, weight, 1)


@final
@dataclasses.dataclass(frozen=True)
class OldFeatures(Loss):
    """`held_features` as a term: where labels say background and the old model a class.

    The published weight is 5.

    Attributes:
        raw_threshold: Logit (not sigmoid) above which the old model sees a class.
    """

    raw_threshold: float = RAW_THRESHOLD

    needs_old: ClassVar[bool] = True
    reads_old_as: ClassVar[Scores | None] = "sigmoid"
    expects_background_at_0: ClassVar[bool] = True
    acts_on_features: ClassVar[bool] = True
    reads_old_labels: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        non_negative(raw_threshold=self.raw_threshold)

    def __call__(self, batch: LossInputs) -> Float[Tensor, ""]:
        old = batch.old_outputs
        region = old_classes_are_seen(old.logits, self.raw_threshold)
        region &= batch.annotated == BACKGROUND
        return held_features(batch.new.features.decoder_out, old.features.decoder_out, region)
