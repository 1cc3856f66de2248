"""ILT's distillation of features: the backbone's last stage stays where it was.

Michieli & Zanuttigh, Incremental Learning Techniques for Semantic Segmentation, ICCV Workshops
2019, https://arxiv.org/abs/1907.13372.
"""

import dataclasses
from typing import ClassVar, final

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from cssegcore.core.precision import at_least_float32
from cssegcore.method.losses._base import Loss, LossInputs


def feature_mse(
    features: Float[Tensor, "b n hb wb"], old_features: Float[Tensor, "b n hb wb"]
) -> Float[Tensor, ""]:
    """Computes the mean squared difference, over images, channels and places alike."""
    return F.mse_loss(at_least_float32(features), at_least_float32(old_features))


@final
@dataclasses.dataclass(frozen=True)
class FeatureMSE(Loss):
    """`feature_mse` of the backbone's last stage, after its activation. Published weight: 100."""

    needs_old: ClassVar[bool] = True
    acts_on_features: ClassVar[bool] = True

    def __call__(self, batch: LossInputs) -> Float[Tensor, ""]:
        return feature_mse(batch.new.features.last_stage, batch.old_outputs.features.last_stage)
