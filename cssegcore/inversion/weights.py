"""What the terms of DeepInversion's objective weigh. No torch here: recipes hold them.

Yin et al., Dreaming to Distill: Data-free Knowledge Transfer via DeepInversion, CVPR 2020,
https://arxiv.org/abs/1912.08795.
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Weights:
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
