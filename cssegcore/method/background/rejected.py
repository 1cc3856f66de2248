"""No output for the background: it is predicted where every class is rejected.

Chen et al., Saving 100x Storage: Prototype Replay for Reconstructing Training Sample Distribution
in Class-Incremental Semantic Segmentation (STAR), NeurIPS 2023.
"""

import dataclasses
from typing import ClassVar, final

from cssegcore.core.types import BackgroundOutput
from cssegcore.method.background._base import BackgroundRule


@final
@dataclasses.dataclass(frozen=True)
class Rejected(BackgroundRule):
    """Output 0 is the constant 0, so a class is chosen where its sigmoid exceeds 0.5."""

    output: ClassVar[BackgroundOutput] = "rejected"
