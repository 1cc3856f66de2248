"""MBS's adaptive feature distillation: features stay where the old model's classes are.

Park et al., Mitigating Background Shift in Class-Incremental Semantic Segmentation, ECCV 2024;
RoadoneP/ECCV2024_MBS, utils/utils.py and utils/loss.py.
"""

import dataclasses
from typing import ClassVar, final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cssegcore.core.precision import at_least_float32
from cssegcore.core.types import BACKGROUND, Scores
from cssegcore.method._class_features import nearest_labels
from cssegcore.method.losses._base import Loss, LossInputs
from cssegcore.runtime.distributed import all_reduce_sum


def old_class_weights(
    labels: Int[Tensor, "b h w"], old_logits: Float[Tensor, "b k h w"]
) -> Float[Tensor, "b h w"]:
    """Returns a weight for each position.

    1 for old classes, 0 for new ones and void, the old model's background probability for
    background.
    """
    background = at_least_float32(old_logits).softmax(1)[:, BACKGROUND]
    is_old = (labels > BACKGROUND) & (labels < old_logits.shape[1])
    return torch.where(labels == BACKGROUND, background, is_old.to(background.dtype))


def weighted_feature_mse(
    features: Float[Tensor, "b d h w"],
    old_features: Float[Tensor, "b d h w"],
    weights: Float[Tensor, "b h w"],
) -> Float[Tensor, ""]:
    """Computes the weighted sum of squared differences over the count of weights above 0.

    Channels are counted, and both are summed over processes. 0 if no weight is above 0.
    """
    squares = (at_least_float32(features) - at_least_float32(old_features)).square()
    parts = (weights[:, None] * squares).sum(), (weights > 0).sum() * features.shape[1]
    total, counted = all_reduce_sum(torch.stack([part.to(squares.dtype) for part in parts]))
    return total / counted.clamp(min=1)


@final
@dataclasses.dataclass(frozen=True)
class WeightedFeatureMSE(Loss):
    """`weighted_feature_mse` of the classifiers' input, by `old_class_weights`.

    It reads labels with pseudo-labels and the old model's low-resolution logits. Labels are sampled
    from the upper left pixel of each block, as released. Published weight: 1.
    """

    needs_old: ClassVar[bool] = True
    reads_old_as: ClassVar[Scores | None] = "softmax"
    acts_on_features: ClassVar[bool] = True
    expects_background_at_0: ClassVar[bool] = True
    reads_old_labels: ClassVar[bool] = True

    @property
    def reads_lowres(self) -> bool:
        return True

    def __call__(self, batch: LossInputs) -> Float[Tensor, ""]:
        old = batch.old_outputs
        height, width = old.logits_lowres.shape[-2:]
        weights = old_class_weights(
            nearest_labels(batch.labels, (height, width)), old.logits_lowres
        )
        return weighted_feature_mse(
            batch.new.features.decoder_out, old.features.decoder_out, weights
        )
