"""No output for the background, and an auxiliary one that new classes start from.

Baek et al., Decomposed Knowledge Distillation for Class-Incremental Semantic Segmentation (DKD),
NeurIPS 2022, https://arxiv.org/abs/2210.05941.
"""

import dataclasses
from typing import ClassVar, final

from cssegcore.core.types import BackgroundOutput
from cssegcore.method.background._base import BackgroundRule


@final
@dataclasses.dataclass(frozen=True)
class AuxiliaryOutput(BackgroundRule):
    """Output 0 is trained by `negative` on features that it does not move; no decision sees it.

    The decision has the constant 0 in its place, so a class is chosen where its sigmoid exceeds
    0.5.
    """

    output: ClassVar[BackgroundOutput] = "auxiliary"
