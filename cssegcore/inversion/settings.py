"""How images are drawn out of a network. No torch here: recipes hold these numbers."""

import dataclasses
import math
from typing import Literal


@dataclasses.dataclass(frozen=True)
class InversionWeights:
    """What each term is multiplied by; the released code's numbers for ImageNet.

    Attributes:
        target: Of the class objective.
        features: Of the feature statistics; 0.01 in the released log. It is the network's own: the
            term grows with the number of layers and of their channels.
        total_variation_l1: Of the means.
        total_variation_l2: Of the norms.
        image_l2: Of the images' lengths.
        competition: Of the disagreement with a student; 0.2 in the released example.
    """

    target: float = 1.0
    features: float = 0.05
    total_variation_l1: float = 0.0
    total_variation_l2: float = 1e-4
    image_l2: float = 1e-5
    competition: float = 0.0

    def __post_init__(self) -> None:
        weights = dataclasses.asdict(self)
        for name, weight in weights.items():
            if not 0 <= weight < float("inf"):
                raise ValueError(f"`{name}` must be a finite number >= 0, got {weight}")
        if not any(weights.values()):
            raise ValueError("one of the weights must be > 0: " + ", ".join(map(repr, weights)))


@dataclasses.dataclass(frozen=True)
class InversionSettings:
    """Numbers of an inversion; by default those for a small network and images of 96 x 96.

    Attributes:
        target: What the network is asked to show: a `layout`, pixel by pixel, or only the
            `presence` of a class somewhere, as in the published attempt at segmentation.
        layouts: Where the outlines in layouts come from: `procedural` blobs, or objects of the
            step to come `transplanted` into earlier classes.
        batch_size: Images at a time; statistics of a few say little.
        phases: Factor that images are reduced by, and iterations, of one phase after the other.
        lr: Of Adam, on normalised pixels; it rises over the first tenth of a phase, 100 iterations
            at most, and falls as half a cosine to 0.
        betas: Of Adam.
        jitter: Largest shift of an iteration, images and layouts together, as a share of the size.
        flip: Probability that an iteration sees them mirrored.
        border: Pixels on either side of an outline that no class is asked of.
        stem_factor: Of the feature statistics of the normalisations nearest to the photograph.
        weights: Of the objective's terms.
    """

    target: Literal["layout", "presence"] = "layout"
    layouts: Literal["procedural", "transplanted"] = "procedural"
    batch_size: int = 32
    phases: tuple[tuple[int, int], ...] = ((2, 150), (1, 150))
    lr: float = 0.1
    betas: tuple[float, float] = (0.5, 0.9)
    jitter: float = 0.125
    flip: float = 0.5
    border: int = 2
    stem_factor: float = 10.0
    weights: InversionWeights = dataclasses.field(
        default_factory=lambda: InversionWeights(
            features=0.03, total_variation_l1=0.3, total_variation_l2=0.0, image_l2=1e-5
        )
    )

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"`batch_size` must be >= 1, got {self.batch_size}")
        if not self.phases or min(min(phase) for phase in self.phases) < 1:
            raise ValueError(
                "`phases` must hold pairs [reduction, iterations] of numbers >= 1, such as"
                f" [[2, 1500], [1, 1000]]; got {self.phases}"
            )
        if not 0 < self.lr < math.inf or not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(
                "`lr` must be a finite number > 0 and `betas` lie in [0, 1), got"
                f" {self.lr} and {self.betas}"
            )
        for name, most in (("jitter", 0.5), ("flip", 1.0)):
            if not 0 <= getattr(self, name) <= most:
                raise ValueError(f"`{name}` must lie in [0, {most}], got {getattr(self, name)}")
        for name in ("border", "stem_factor"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"`{name}` must be finite and >= 0, got {getattr(self, name)}")

    def rate(self, iteration: int, iterations: int) -> float:
        """Returns the learning rate of an iteration of a phase, counted from 0."""
        rising = min(100, iterations // 10)
        fall = (1 + math.cos(math.pi * iteration / iterations)) / 2
        return self.lr * fall * min(1.0, (iteration + 1) / max(rising, 1))
