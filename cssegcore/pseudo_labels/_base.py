"""What a pseudo-labelling rule does."""

import abc
from pathlib import Path


class PseudoLabels(abc.ABC):
    """Labels a step's photographs with the model of the step before."""

    @abc.abstractmethod
    def write(self, out: Path) -> None:
        """Writes `manifest.json` below `out`, and the label images that it lists."""
