"""The framework's own initialisation."""

import dataclasses
from collections.abc import Sequence
from typing import final

from torch import nn

from cssegcore.classifier_init._base import ClassifierInit


@final
@dataclasses.dataclass(frozen=True)
class AsBuilt(ClassifierInit):
    """Leaves the new head as PyTorch built it."""

    def __call__(self, heads: Sequence[nn.Conv2d]) -> None:
        del heads
