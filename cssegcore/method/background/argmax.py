"""The background has an output like every class, and the largest wins."""

import dataclasses
from typing import ClassVar, final

from cssegcore.core.types import BackgroundOutput
from cssegcore.method.background._base import BackgroundRule


@final
@dataclasses.dataclass(frozen=True)
class ArgMax(BackgroundRule):
    """Output 0 is learned in the same way as the outputs of the classes."""

    output: ClassVar[BackgroundOutput] = "argmax"
