"""MiB's initialisation: a new class starts as a share of the background.

Cermelli et al., Modeling the Background for Incremental Learning in Semantic Segmentation,
CVPR 2020, https://arxiv.org/abs/2002.00718.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import ClassVar, final

import torch

from cssegcore.core.types import BACKGROUND
from cssegcore.method.classifier_init._base import ClassifierInit
from cssegcore.models.heads import Head


@final
@dataclasses.dataclass(frozen=True)
class FromBackground(ClassifierInit):
    """Splits the background's probability evenly over it and the n new classes.

    New weights are the background's, new biases its bias less log(n + 1); its own bias is lowered
    likewise, so that the log-sum-exp of background and new classes is the old background's score.
    """

    expects_background_at_0: ClassVar[bool] = True

    @torch.no_grad()
    def __call__(self, heads: Sequence[Head]) -> None:
        first, new = heads[0], heads[-1]
        first.bias[BACKGROUND] -= math.log(new.outputs + 1)
        new.start_as_background(first)
        new.bias.fill_(first.bias[BACKGROUND])
