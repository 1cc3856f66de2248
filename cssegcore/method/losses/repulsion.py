"""SDR's repulsion: the mean features of different classes keep apart.

Michieli and Zanuttigh, Continual Semantic Segmentation via Repulsion-Attraction of Sparse and
Disentangled Latent Representations, CVPR 2021, https://arxiv.org/abs/2103.06342.
"""

import dataclasses
from typing import ClassVar, final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cssegcore.method._class_features import Gather, class_means, nearest_labels, released_gather
from cssegcore.method.losses._base import Loss, LossInputs

RESOLUTION = 8
"""Two means closer than this many rounding errors of theirs are one point."""


def repulsion(
    features: Float[Tensor, "b n h w"],
    labels: Int[Tensor, "b h w"],
    classes: int,
    gather: Gather = "intended",
) -> Float[Tensor, ""]:
    """Computes the mean, over ordered pairs of classes, of 1 / distance of their means.

    The means are those of the batch, background's among them; both carry gradient. A pair of equal
    means does not count: 1 / distance and its slope would be rounding. 0 for a single class.

    Deviation: the mean over pairs, as in the released code, where the paper sums over one class of
    each pair; the published weight 1e-3 belongs to the mean. Pairs of a class with itself are left
    out before the reciprocal: the released code, above 25 classes, lets their rounding in.

    Args:
        features: Features of the network in training.
        labels: Annotated labels at the size of the features; pixels of 255 are left out.
        classes: Outputs c of the network.
        gather: See `released_gather`; this loss's is `n p`.
    """
    if gather == "released":
        features = released_gather(features, labels, "n p")
    means, counts = class_means(features, labels, classes)
    # the form by matrix products, the default above 25 rows, is not exact for close points
    distances = torch.cdist(means, means, compute_mode="donot_use_mm_for_euclid_dist")
    present = counts > 0
    apart = present & present[:, None] & (distances > _noise(means))
    inverse = torch.where(apart, 1 / torch.where(apart, distances, 1), 0)
    return inverse.sum() / apart.sum().clamp(min=1)


def _noise(means: Float[Tensor, "c n"]) -> Float[Tensor, "c c"]:
    """Returns the distance below which two means are equal up to rounding; never 0."""
    epsilon = torch.finfo(means.dtype).eps
    lengths = means.detach().norm(dim=1).clamp(min=epsilon)
    return RESOLUTION * epsilon * torch.maximum(lengths, lengths[:, None])


@final
@dataclasses.dataclass(frozen=True)
class Repulsion(Loss):
    """`repulsion` as a term. The published weight is 1e-3.

    Attributes:
        gather: See `released_gather`.
    """

    gather: Gather = "intended"

    acts_on_features: ClassVar[bool] = True
    reads_old_labels: ClassVar[bool] = True

    def __call__(self, batch: LossInputs) -> Float[Tensor, ""]:
        features = batch.new.features.last_stage
        labels = nearest_labels(batch.annotated, (features.shape[2], features.shape[3]))
        return repulsion(features, labels, batch.logits.shape[1], self.gather)
