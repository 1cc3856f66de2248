"""Normalisation of the photographs that a network reads."""

import dataclasses

Triple = tuple[float, float, float]


@dataclasses.dataclass(frozen=True)
class Normalization:
    """Mean and deviation of each colour, for values scaled to [0, 1].

    The network reads `(value / 255 - mean) / std`.

    Attributes:
        mean: Mean of red, green and blue.
        std: Standard deviation of red, green and blue.
    """

    mean: Triple
    std: Triple


IMAGENET = Normalization((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""ImageNet's normalisation, which torchvision's networks and all published methods use."""
