"""DKD's decomposed distillation.

It distils positive and negative reasoning scores of old classes separately.

Baek et al., Decomposed Knowledge Distillation for Class-Incremental Semantic Segmentation (DKD),
NeurIPS 2022, https://arxiv.org/abs/2210.05941; cvlab-yonsei/DKD, models/model.py and loss.py.
"""

import dataclasses
from typing import ClassVar, Literal, final

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from cssegcore.core.precision import at_least_float32
from cssegcore.core.types import Scores
from cssegcore.method.losses._base import Loss, LossInputs

Sign = Literal["positive", "negative"]
"""Sign of the weights that a reasoning score is summed over."""


def reasoning_scores(
    features: Float[Tensor, "b d h w"], weight: Float[Tensor, "c d"], sign: Sign
) -> Float[Tensor, "b c h w"]:
    """Sums each class's weights of one sign times the features, without bias, at features' size.

    Deviation: the paper splits by the sign of weight times feature, the released code by that of
    the weight, as here. Both are the same where features are not negative; behind a leaky
    activation only the latter keeps positive scores out of the negative sum.

    A weight of 0 is in neither sum, and gets no slope.
    """
    kept = weight > 0 if sign == "positive" else weight < 0
    signed = at_least_float32(weight).where(kept, 0)
    with torch.autocast(features.device.type, enabled=False):  # it would round both
        return F.conv2d(at_least_float32(features), signed[:, :, None, None])


def reasoning_distillation(
    scores: Float[Tensor, "b n h w"], old_scores: Float[Tensor, "b n h w"]
) -> Float[Tensor, ""]:
    """Computes the sigmoid cross-entropy from the old scores: sum over n classes, mean over places.

    All places take part, whatever they are labelled.
    """
    target = old_scores.sigmoid()
    return scores.shape[1] * F.binary_cross_entropy_with_logits(scores, target)


@final
@dataclasses.dataclass(frozen=True)
class Reasoning(Loss):
    """`reasoning_distillation` of the old outputs but 0 as a term; each model has its own weights.

    Attributes:
        sign: Sign of the weights that are summed; DKD has a term of each. Published weights: 5.
    """

    sign: Sign = "positive"

    needs_old: ClassVar[bool] = True
    reads_old_as: ClassVar[Scores | None] = "sigmoid"
    reads_classifiers: ClassVar[bool] = True
    needs_linear_scores: ClassVar[bool] = True

    def __call__(self, batch: LossInputs) -> Float[Tensor, ""]:
        classes = slice(1, batch.num_old)
        new, old = batch.new.features.decoder_out, batch.old_outputs.features.decoder_out
        scores = reasoning_scores(new, batch.head_weights.weight[classes], self.sign)
        weight = batch.old_head_weights.weight[classes]
        return reasoning_distillation(scores, reasoning_scores(old, weight, self.sign))
