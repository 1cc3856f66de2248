"""EWF's freezing: classifiers of earlier steps stand still, everything else learns.

Xiao et al., Endpoints Weight Fusion for Class Incremental Semantic Segmentation, CVPR 2023;
schuy1er/EWF_official, option `--fix_pre_cls`.
"""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar, final

from torch import nn

from cssegcore.core.types import UpdateFactors
from cssegcore.method.freeze._base import Freeze
from cssegcore.models.segmenter import Segmenter


@final
@dataclasses.dataclass(frozen=True)
class OldHeads(Freeze):
    """Freezes all heads but the newest, auxiliary ones included.

    No gradient reaches them, so neither momentum nor weight decay moves them. The normalisation of
    a head that has some stands still as well; the released heads are single convolutions. It acts
    after `classifier_init`, whose change of an old head is therefore kept.
    """

    freezes_old: ClassVar[bool] = True

    def __call__(self, segmenter: Segmenter) -> Mapping[str, UpdateFactors]:
        auxiliary = [list(heads.children()) for heads in segmenter.auxiliary]
        for heads in (list(segmenter.heads), *auxiliary):
            for head in heads[:-1]:
                head.requires_grad_(False)
                segmenter.keep_eval(
                    m for m in head.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)
                )
        return {}
