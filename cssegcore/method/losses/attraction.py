"""SDR's attraction: the features of a class gather around its prototype.

Michieli and Zanuttigh, Continual Semantic Segmentation via Repulsion-Attraction of Sparse and
Disentangled Latent Representations, CVPR 2021, https://arxiv.org/abs/2103.06342.
"""

import dataclasses
from typing import ClassVar, Literal, final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from cssegcore.method._class_features import (
    Gather,
    class_distances,
    nearest_labels,
    released_gather,
)
from cssegcore.method.losses._base import Loss, LossInputs

ClassWeighting = Literal["mean", "nested"]


def present_class_weights(
    present: Bool[Tensor, " c"], average: ClassWeighting, dtype: torch.dtype
) -> Float[Tensor, " c"]:
    """Returns the weight of each of the K classes in the batch.

    1/K each; or, `nested`, as the released code has it, which divides inside its loop over the
    classes: K^-(K-i+1) for the i-th of them, so that the last weighs 1/K and background next to
    nothing.
    """
    count = present.sum().clamp(min=1)
    power = -1 if average == "mean" else present.cumsum(0) - count - 1
    return torch.where(present, count.to(dtype) ** power, 0)


def attraction(
    features: Float[Tensor, "b n h w"],
    labels: Int[Tensor, "b h w"],
    prototypes: Float[Tensor, "c n"],
    average: ClassWeighting = "mean",
    gather: Gather = "intended",
) -> Float[Tensor, ""]:
    """Computes the mean squared distance of a class's pixels from its prototype, over the classes.

    Background is a class like any other. Where the prototypes leave it out (overlapped), its
    prototype is 0 and its features are drawn there, as in the released code.

    Deviation: mean squares, as in the released code, where the paper writes norms; the published
    weight 1e-3 belongs to them. The released code is `nested`, gathered as `released`.

    Args:
        features: Features of the network in training.
        labels: Annotated labels at the size of the features; pixels of 255 are left out.
        prototypes: Prototypes of all c classes, this batch included; no gradient reaches them.
        average: `mean` or `nested`, see `present_class_weights`.
        gather: See `released_gather`; this loss's is `n p`.
    """
    if gather == "released":
        features = released_gather(features, labels, "n p")
    distances, counts = class_distances(features, labels, prototypes.detach())
    return (present_class_weights(counts > 0, average, distances.dtype) * distances).sum()


@final
@dataclasses.dataclass(frozen=True)
class Attraction(Loss):
    """`attraction` as a term. The published weight is 1e-3.

    Attributes:
        gather: See `released_gather`.
        average: `mean` or `nested`, see `present_class_weights`.
    """

    gather: Gather = "intended"
    average: ClassWeighting = "mean"

    statistic: ClassVar[str] = "prototypes"
    acts_on_features: ClassVar[bool] = True
    reads_old_labels: ClassVar[bool] = True

    def __call__(self, batch: LossInputs) -> Float[Tensor, ""]:
        features = batch.new.features.last_stage
        labels = nearest_labels(batch.annotated, (features.shape[2], features.shape[3]))
        prototypes = batch.statistics[self.statistic]["means"]
        return attraction(features, labels, prototypes, self.average, self.gather)
