"""SSUL's freezing: features and old classes stand still, so that they cannot be forgotten.

Cha et al., SSUL: Semantic Segmentation with Unknown Label for Exemplar-based Class-Incremental
Learning, NeurIPS 2021, https://arxiv.org/abs/2106.11562.
"""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar, final

from torch import nn

from cssegcore.core.ranges import non_negative
from cssegcore.core.types import UpdateFactors
from cssegcore.method.freeze._base import Freeze
from cssegcore.models.segmenter import Segmenter


@final
@dataclasses.dataclass(frozen=True)
class AllButNewest(Freeze):
    """Trains the convolutions of three heads: unknown, background and the newest.

    All normalisation stands still, of these heads too: its running statistics and its weights, as
    in the released code. Dropout stays active.

    Attributes:
        background_lr: Factor of the background head's learning rate.
    """

    background_lr: float = 1e-4

    freezes_old: ClassVar[bool] = True
    freezes_extractor: ClassVar[bool] = True
    keeps_statistics: ClassVar[bool] = True
    needs_unknown: ClassVar[bool] = True

    def __post_init__(self) -> None:
        non_negative(background_lr=self.background_lr)

    def __call__(self, segmenter: Segmenter) -> Mapping[str, UpdateFactors]:
        unknown, background, *_, newest = segmenter.groups
        norms = [m for m in segmenter.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
        segmenter.keep_eval(norms)
        segmenter.requires_grad_(False)
        for head in (unknown, background, newest):
            head.requires_grad_(True)
        for norm in norms:
            norm.requires_grad_(False)
        slow = {id(weight) for weight in background.parameters() if weight.requires_grad}
        factors = UpdateFactors(lr=self.background_lr)
        weights = segmenter.named_parameters()
        return {name: factors for name, weight in weights if id(weight) in slow}
