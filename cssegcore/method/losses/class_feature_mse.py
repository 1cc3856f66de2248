"""MBS's distillation of class features: the decoder's tokens of old classes stay the same.

Park et al., Mitigating Background Shift in Class-Incremental Semantic Segmentation, ECCV 2024;
RoadoneP/ECCV2024_MBS, main.py.
"""

import dataclasses
from typing import ClassVar, final

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from cssegcore.core.precision import at_least_float32
from cssegcore.method.losses._base import Loss, LossInputs


def class_feature_mse(
    classes: Float[Tensor, "b c d"], old_classes: Float[Tensor, "b k d"]
) -> Float[Tensor, ""]:
    """Computes the mean squared difference over images, old outputs and channels.

    Args:
        classes: Features of all c outputs; the first k are the old ones.
        old_classes: Features of the old model's k outputs, background included.
    """
    kept = classes[:, : old_classes.shape[1]]
    return F.mse_loss(at_least_float32(kept), at_least_float32(old_classes))


@final
@dataclasses.dataclass(frozen=True)
class ClassFeatureMSE(Loss):
    """`class_feature_mse` as a term. Published weight: 1."""

    needs_old: ClassVar[bool] = True
    needs_class_tokens: ClassVar[bool] = True
    acts_on_features: ClassVar[bool] = True

    def __call__(self, batch: LossInputs) -> Float[Tensor, ""]:
        classes, old = batch.new.features.classes, batch.old_outputs.features.classes
        assert classes is not None, "recipes are checked against the network"
        assert old is not None, "old and new network are of one kind"
        return class_feature_mse(classes, old)
