"""MBS's orthogonal term: weight vectors of new classes are orthogonal to all others.

Park et al., Mitigating Background Shift in Class-Incremental Semantic Segmentation, ECCV 2024;
RoadoneP/ECCV2024_MBS, utils/loss.py and main.py.
"""

import dataclasses
from typing import ClassVar, final

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from cssegcore.core.precision import at_least_float32
from cssegcore.method.losses._base import Loss, LossInputs


def orthogonality(weights: Float[Tensor, "c d"], num_old: int) -> Float[Tensor, ""]:
    """Computes the mean size of the cosines of new classes with others, times new / all classes.

    A pair's gradient goes to the new class alone; of two new classes, each is moved by the pair's
    other order. Cosines that are exactly 0 are left out of the mean, as released. 0 without new
    classes.

    Args:
        weights: Weight vectors of all outputs, the background included; the new ones come last.
        num_old: Outputs of the old model.
    """
    directions = F.normalize(at_least_float32(weights), dim=1)
    with torch.autocast(weights.device.type, enabled=False):
        cosines = (directions[num_old:] @ directions.detach().T).abs()
    outputs = torch.arange(len(weights), device=weights.device)
    counted = (outputs[num_old:, None] != outputs) & (cosines > 0)
    mean = torch.where(counted, cosines, 0).sum() / counted.sum().clamp(min=1)
    return mean * ((len(weights) - num_old) / len(weights))


@final
@dataclasses.dataclass(frozen=True)
class Orthogonal(Loss):
    """`orthogonality` of the heads: of class tokens, or of the rows of 1x1 convolutions.

    Published weight: 1.
    """

    reads_classifiers: ClassVar[bool] = True
    expects_background_at_0: ClassVar[bool] = True
    needs_new_classes: ClassVar[bool] = True

    def __call__(self, batch: LossInputs) -> Float[Tensor, ""]:
        return orthogonality(batch.head_weights.weight, batch.num_old)
