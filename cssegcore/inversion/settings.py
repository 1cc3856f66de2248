"""Numbers of an inversion and of a whole synthesis. No torch here: recipes hold these numbers.

Yin et al., Dreaming to Distill: Data-free Knowledge Transfer via DeepInversion, CVPR 2020,
https://arxiv.org/abs/1912.08795.
"""

import dataclasses
import math
from typing import Literal

from cssegcore.core.ranges import at_least, fraction, non_negative, positive, within


@dataclasses.dataclass(frozen=True)
class InversionWeights:
    """Weight of each term of the objective; the defaults are the released code's for ImageNet.

    Attributes:
        target: Weight of the class objective.
        features: Weight of the feature statistics; 0.01 in the released log. A suitable value
            depends on the network: the term grows with the number of layers and channels.
        total_variation_l1: Weight of the total variation by mean absolute differences.
        total_variation_l2: Weight of the total variation by norms.
        image_l2: Weight of the images' L2 norms.
        competition: Weight of the competition with a student; 0.2 in the released example.

    Raises:
        ValueError: A weight is negative or not finite, or all weights are 0.
    """

    target: float = 1.0
    features: float = 0.05
    total_variation_l1: float = 0.0
    total_variation_l2: float = 1e-4
    image_l2: float = 1e-5
    competition: float = 0.0

    def __post_init__(self) -> None:
        weights = dataclasses.asdict(self)
        non_negative(**weights)
        if not any(weights.values()):
            raise ValueError("one of the weights must be > 0: " + ", ".join(map(repr, weights)))


@dataclasses.dataclass(frozen=True)
class InversionSettings:
    """Numbers of an inversion; the defaults suit a small network and images of 96 x 96.

    Attributes:
        target: Content of the images: `layout` wants a class at each pixel, `presence` one class
            anywhere in the image, as in the published attempt at segmentation.
        layouts: Outlines of the objects in label maps: `procedural` blobs, or objects that are
            annotated for the step to come, `transplanted` into earlier classes.
        batch_size: Images that are optimised together; statistics of a few images are unreliable.
        phases: Pairs (factor by which images are reduced, iterations), one after the other.
        lr: Learning rate of Adam on normalised pixels. It rises over the first tenth of a phase
            (at most 100 iterations) and then falls to 0 along half a cosine.
        betas: Decay rates of Adam's two moments.
        jitter: Largest random shift of images and label maps, as a share of the image's side.
        flip: Probability that an iteration mirrors images and label maps.
        border: Width in pixels, on either side of an outline, of the band that is ignored.
        stem_factor: Factor on the feature statistics of the normalisations nearest to the input.
        weights: Weights of the objective's terms.

    Raises:
        ValueError: A number lies outside its range.
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
        at_least(1, batch_size=self.batch_size)
        if not self.phases or min(min(phase) for phase in self.phases) < 1:
            raise ValueError(
                "`phases` must hold pairs [reduction, iterations] of numbers >= 1, such as"
                f" [[2, 1500], [1, 1000]]; got {self.phases}"
            )
        positive(lr=self.lr)
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"`betas` must lie in [0, 1), got {list(self.betas)}")
        within(0, 0.5, jitter=self.jitter)
        fraction(flip=self.flip)
        non_negative(border=self.border, stem_factor=self.stem_factor)

    def rate(self, iteration: int, iterations: int) -> float:
        """Returns the learning rate of a phase's iteration `iteration`, counted from 0."""
        rising = min(100, iterations // 10)
        fall = (1 + math.cos(math.pi * iteration / iterations)) / 2
        return self.lr * fall * min(1.0, (iteration + 1) / max(rising, 1))


@dataclasses.dataclass(frozen=True)
class SynthesisSettings:
    """Numbers of a synthesis: count, quality and inversion of the images.

    Attributes:
        per_class: Number of images to keep of each class.
        confidence: Least probability of a label; pixels below it are void (255).
        agreement: Least score of a kept image. With label maps the score is the intersection over
            union of the primary class between label map and prediction, without them the share of
            pixels that are labelled with the primary class.
        extra: Most batches beyond the number that suffices if every image is kept.
        student: Model file of a second network of the same classes for the term `competition`;
            empty for none.
        verifier: Model file of a network of the same classes that was not inverted. Its agreement
            is reported and decides nothing; empty for none.
        inversion: Numbers of the inversion of one batch.
    """

    per_class: int
    confidence: float
    agreement: float
    extra: int
    student: str
    verifier: str
    inversion: InversionSettings
