"""DeepInversion's objective: what the terms weigh, and their sum.

Yin et al., Dreaming to Distill: Data-free Knowledge Transfer via DeepInversion, CVPR 2020,
https://arxiv.org/abs/1912.08795.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from cssegcore.inversion.priors import image_l2, total_variation_l1, total_variation_l2
from cssegcore.precision import wide

Term = Float[Tensor, ""] | Callable[[], Float[Tensor, ""]]
"""A number, or what computes it if it has a weight."""


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


class Objective(NamedTuple):
    """The objective of a batch of images.

    Attributes:
        total: The weighted sum, to descend on.
        terms: Each term before its weight, by the weight's name, for curves: without gradient.
    """

    total: Float[Tensor, ""]
    terms: dict[str, Float[Tensor, ""]]


def objective(
    weights: Weights,
    images: Float[Tensor, "b n h w"],
    target: Term,
    features: Term,
    competition: Term,
) -> Objective:
    """Sums the terms by their weights.

    A term without weight takes no part, so that it costs no backward pass; if it still has to be
    computed, a student's pass say, it is left out and told as 0.

    Args:
        weights: Of the terms.
        images: As the network saw them: shifted, flipped, reduced.
        target: The class objective: of classes, cross-entropy with the images' classes; of a
            segmentation, with their layouts.
        features: `FeatureStatistics.total` after the pass.
        competition: See `competition`.
    """
    given: dict[str, Term] = {
        "target": target,
        "features": features,
        "total_variation_l1": total_variation_l1(images),
        "total_variation_l2": total_variation_l2(images),
        "image_l2": image_l2(images),
        "competition": competition,
    }
    factors = dataclasses.asdict(weights)
    terms = {name: _value(term, factors[name], images) for name, term in given.items()}
    total = torch.stack([f * terms[name] for name, f in factors.items() if f]).sum()
    return Objective(total, {name: term.detach() for name, term in terms.items()})


def _value(term: Term, weight: float, images: Tensor) -> Float[Tensor, ""]:
    if isinstance(term, Tensor):
        return wide(term)
    return wide(term()) if weight else wide(images.new_zeros(()))
