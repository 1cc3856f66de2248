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

LazyTerm = Float[Tensor, ""] | Callable[[], Float[Tensor, ""]]
"""A value, or a function that computes it; the function is called only if the term has a weight."""


class ObjectiveValue(NamedTuple):
    """Value of the objective for a batch of images.

    Attributes:
        total: The weighted sum that is minimised.
        terms: Each term before its weight, by the weight's name, detached; for curves.
    """

    total: Float[Tensor, ""]
    terms: dict[str, Float[Tensor, ""]]


def objective(
    weights: InversionWeights,
    images: Float[Tensor, "b n h w"],
    target: LazyTerm,
    features: LazyTerm,
    competition: LazyTerm,
) -> ObjectiveValue:
    """Sums the terms by their weights.

    A term of weight 0 is not part of the sum and costs no backward pass. If it is given as a
    function (such as a student's forward pass), it is not computed, and `terms` has 0 for it.

    Args:
        weights: Weights of the terms.
        images: The network's input: shifted, flipped, reduced.
        target: The class objective; see `cssegcore.inversion.targets`.
        features: `FeatureStatistics.total` after the forward pass.
        competition: See `cssegcore.inversion.competition`.
    """
    given: dict[str, LazyTerm] = {
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
    return ObjectiveValue(total, {name: term.detach() for name, term in terms.items()})


def _value(term: LazyTerm, weight: float, images: Tensor) -> Float[Tensor, ""]:
    if isinstance(term, Tensor):
        return at_least_float32(term)
    return at_least_float32(term()) if weight else at_least_float32(images.new_zeros(()))
