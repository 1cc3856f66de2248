"""Interface of a rule for output 0. No torch here: stages ask before they import it."""

from typing import ClassVar

from cssegcore.core.types import BackgroundOutput


class BackgroundRule:
    """Rule for the score of the background; the network and its file read `output` alone.

    Attributes:
        output: See `BackgroundOutput`.
    """

    output: ClassVar[BackgroundOutput]
