"""Everything learns."""

import dataclasses
from collections.abc import Mapping
from typing import final

from cssegcore.core.types import UpdateFactors
from cssegcore.method.freeze._base import Freeze
from cssegcore.models.segmenter import Segmenter


@final
@dataclasses.dataclass(frozen=True)
class FreezeNothing(Freeze):
    """Freezes nothing."""

    def __call__(self, segmenter: Segmenter) -> Mapping[str, UpdateFactors]:
        del segmenter
        return {}
