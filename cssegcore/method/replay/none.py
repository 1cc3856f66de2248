"""No replay: a step sees its own images."""

import dataclasses
from typing import final

from cssegcore.method.replay._base import Replay


@final
@dataclasses.dataclass(frozen=True)
class ReplayNothing(Replay):
    """Keeps and makes nothing."""
