"""DKD's and STAR's increments: normalisation and dropout stand still, everything else learns.

Baek et al., Decomposed Knowledge Distillation for Class-Incremental Semantic Segmentation (DKD),
NeurIPS 2022, https://arxiv.org/abs/2210.05941; cvlab-yonsei/DKD, option `--freeze_bn`.
"""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar, Literal, final

from torch import nn

from cssegcore.core.ranges import positive
from cssegcore.core.types import UpdateFactors
from cssegcore.method.freeze._base import Freeze
from cssegcore.models.segmenter import Segmenter


@final
@dataclasses.dataclass(frozen=True)
class Norms(Freeze):
    """Holds all batch normalisation, its weights too, and all dropout in evaluation mode.

    Attributes:
        decay: Trained weights with weight decay: `all` (STAR), or the `newest` head's alone (DKD).
        newest_lr: Factor of the newest head's learning rate beside the decoder's (STAR: 10).
    """

    decay: Literal["all", "newest"] = "all"
    newest_lr: float = 1.0

    keeps_statistics: ClassVar[bool] = True

    def __post_init__(self) -> None:
        positive(newest_lr=self.newest_lr)

    def __call__(self, segmenter: Segmenter) -> Mapping[str, UpdateFactors]:
        modules = list(segmenter.modules())
        norms = [m for m in modules if isinstance(m, nn.modules.batchnorm._BatchNorm)]
        dropout = [m for m in modules if isinstance(m, nn.modules.dropout._DropoutNd)]
        segmenter.keep_eval([*norms, *dropout])
        for norm in norms:
            norm.requires_grad_(False)
        auxiliary = [list(heads.children()) for heads in segmenter.auxiliary]
        newest = [heads[-1] for heads in (list(segmenter.heads), *auxiliary)]
        new = {id(weight) for head in newest for weight in head.parameters()}
        old_factors = UpdateFactors(weight_decay=1.0 if self.decay == "all" else 0.0)
        return {
            name: UpdateFactors(lr=self.newest_lr) if id(weight) in new else old_factors
            for name, weight in segmenter.named_parameters()
            if weight.requires_grad
        }
