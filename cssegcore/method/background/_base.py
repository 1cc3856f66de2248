"""What a rule for output 0 says. No torch here: stages ask before they import it."""

from typing import ClassVar

from cssegcore.core.types import BackgroundOutput


class BackgroundRule:
    """Says what scores the background; the network and its file know the rest by `output`.

    Attributes:
        output: See `BackgroundOutput`.
    """

    output: ClassVar[BackgroundOutput]
