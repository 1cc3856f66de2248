"""What a way of replaying earlier steps does."""

import abc
from pathlib import Path


class Replay(abc.ABC):
    """Brings samples of earlier steps into a step: kept photographs, made ones, or none."""

    @abc.abstractmethod
    def remember(self, out: Path) -> None:
        """Writes `manifest.json` below `out`: the training images to keep."""

    @abc.abstractmethod
    def synthesize(self, out: Path) -> None:
        """Writes `manifest.json` below `out`, and the images and labels that it lists."""
