"""SDR's sparsification: a pixel's features are few and strong.

Michieli and Zanuttigh, Continual Semantic Segmentation via Repulsion-Attraction of Sparse and
Disentangled Latent Representations, CVPR 2021, https://arxiv.org/abs/2103.06342.
"""

import dataclasses
from typing import ClassVar, final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cssegcore.core.precision import at_least_float32
from cssegcore.core.types import BACKGROUND, IGNORE
from cssegcore.method._class_features import nearest_labels
from cssegcore.method.losses._base import Loss, LossInputs

_EPSILON = 1e-15
"""Term that the released code adds to its denominators."""

DEAD = 1e-6
"""Normalised features that sum to less are none."""


def sparsification(
    features: Float[Tensor, "b n h w"], labels: Int[Tensor, "b h w"]
) -> Float[Tensor, ""]:
    """Computes Σ exp(f) / Σ f over the channels, mean over pixels, f scaled by the class's maximum.

    The maximum is one number for all pixels and channels of a class in the batch, and carries
    gradient. Background and ignored pixels are classes here, as in the released code; so is its
    rule that a batch of nothing but background gives 0.

    Deviation: a pixel whose features are all 0 adds 0, where the released code adds 1e15 a channel:
    there is nothing to make sparse, and no direction that would.

    Args:
        features: Features of the network in training, not negative.
        labels: Annotated labels, at the size of the features.
    """
    scaled = at_least_float32(features) / (_class_maxima(features, labels)[:, None] + _EPSILON)
    total = scaled.sum(1)
    alive = total.abs() > DEAD
    ratio = scaled.exp().sum(1) / (total + _EPSILON)  # finite, so that `where` stops its gradient
    counts = (labels.max() > BACKGROUND) & (total.sum() > 0)
    return torch.where(alive & counts, ratio, 0).mean()


def _class_maxima(
    features: Float[Tensor, "b n h w"], labels: Int[Tensor, "b h w"]
) -> Float[Tensor, "b h w"]:
    """Returns for each pixel the largest value of any channel of any pixel of its class."""
    strongest, ids = at_least_float32(features).amax(1).flatten(), labels.flatten()
    none = strongest.new_full((IGNORE + 1,), -torch.inf)
    maxima = none.scatter_reduce(0, ids, strongest, "amax", include_self=False)
    return maxima.gather(0, ids).view_as(labels)


@final
@dataclasses.dataclass(frozen=True)
class Sparsification(Loss):
    """`sparsification` as a term. The published weight is 1e-3."""

    acts_on_features: ClassVar[bool] = True
    reads_old_labels: ClassVar[bool] = True

    def __call__(self, batch: LossInputs) -> Float[Tensor, ""]:
        features = batch.new.features.last_stage
        labels = nearest_labels(batch.annotated, (features.shape[2], features.shape[3]))
        return sparsification(features, labels)
