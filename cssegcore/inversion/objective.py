"""DeepInversion's objective: the weighted sum of its terms.

Yin et al., Dreaming to Distill: Data-free Knowledge Transfer via DeepInversion, CVPR 2020,
https://arxiv.org/abs/1912.08795.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from cssegcore.core.precision import at_least_float32
from cssegcore.inversion.priors import image_l2, total_variation_l1, total_variation_l2
from cssegcore.inversion.settings import InversionWeights

Term = Float[Tensor, ""] | Callable[[], Float[Tensor, ""]]
"""A number, or what computes it if it has a weight."""


class Objective(NamedTuple):
    """The objective of a batch of images.

    Attributes:
        total: The weighted sum, to descend on.
        terms: Each term before its weight, by the weight's name, for curves: without gradient.
    """

    total: Float[Tensor, ""]
    terms: dict[str, Float[Tensor, ""]]


def objective(
    weights: InversionWeights,
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
        return at_least_float32(term)
    return at_least_float32(term()) if weight else at_least_float32(images.new_zeros(()))
