"""MBS's initialisation: the weights of a new class start as the background's.

Park et al., Mitigating Background Shift in Class-Incremental Semantic Segmentation, ECCV 2024;
RoadoneP/ECCV2024_MBS, main.py.
"""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar, final

import torch

from cssegcore.core.types import BACKGROUND
from cssegcore.method.classifier_init._base import ClassifierInit
from cssegcore.models.heads import FeatureHead, Head


@final
@dataclasses.dataclass(frozen=True)
class CopyOfBackground(ClassifierInit):
    """Copies the background's class token, or its row of a 1x1 convolution with its bias.

    No bias is lowered, so the background and each new class score alike at first. Factor and offset
    of a token's mask start fresh, as released.
    """

    expects_background_at_0: ClassVar[bool] = True

    @torch.no_grad()
    def __call__(self, heads: Sequence[Head]) -> None:
        first, new = heads[0], heads[-1]
        new.copy_shared_layers(first)
        new.weight.copy_(first.weight[BACKGROUND].expand_as(new.weight))
        if isinstance(new, FeatureHead):
            new.bias.fill_(first.bias[BACKGROUND])
