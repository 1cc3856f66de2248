"""SDR's prototype matching: the features of old classes stay where their prototypes are.

Michieli and Zanuttigh, Continual Semantic Segmentation via Repulsion-Attraction of Sparse and
Disentangled Latent Representations, CVPR 2021, https://arxiv.org/abs/2103.06342.
"""

import dataclasses
from typing import ClassVar, Literal, final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cssegcore.core.types import BACKGROUND, IGNORE, ClassSetting
from cssegcore.method._class_features import (
    Gather,
    class_distances,
    class_means,
    nearest_labels,
    released_gather,
)
from cssegcore.method.losses._base import Loss, LossInputs

AveragedOver = Literal["classes", "pixels"]


def old_classes(
    annotated: Int[Tensor, "b h w"],
    old_logits: Float[Tensor, "b k h w"],
    size: tuple[int, int],
    sequential: bool = False,
) -> Int[Tensor, "b hb wb"]:
    """Returns the old class of each pixel of a feature map, 0 for none.

    Where background is annotated it is the old model's best class, without any threshold.
    Sequential labels have old classes annotated.
    """
    labels, k = nearest_labels(annotated, size), old_logits.shape[1]
    if sequential:
        return torch.where(labels < k, labels, BACKGROUND)
    return torch.where(labels == BACKGROUND, nearest_labels(old_logits, size).argmax(1), BACKGROUND)


def prototype_matching(
    features: Float[Tensor, "b n h w"],
    labels: Int[Tensor, "b h w"],
    prototypes: Float[Tensor, "c n"],
    average: AveragedOver = "classes",
    gather: Gather = "intended",
) -> Float[Tensor, ""]:
    """Computes the squared distance of old classes' features from their prototypes.

    With `classes`, the squared distance of a class's mean in this batch from its prototype, over
    channels and the classes present; with `pixels`, the mean squared distance of its pixels, summed
    over the classes, as the released code's other mode does. 0 where no old class is.

    Deviation: mean squares, as in the released code, where the paper writes a norm; the published
    weight 0.01 belongs to them.

    Args:
        features: Features of the network in training.
        labels: Old classes at the size of the features; background and 255 take no part.
        prototypes: Prototypes of all c classes; no gradient reaches them.
        average: `classes` or `pixels`, see above.
        gather: See `released_gather`; this loss's is `p n`.
    """
    labels, prototypes = torch.where(labels == BACKGROUND, IGNORE, labels), prototypes.detach()
    if gather == "released":
        features = released_gather(features, labels, "p n")
    if average == "pixels":
        return class_distances(features, labels, prototypes)[0].sum()
    means, counts = class_means(features, labels, len(prototypes))
    present = counts > 0
    distances = (means - prototypes).square().mean(1)
    return torch.where(present, distances, 0).sum() / present.sum().clamp(min=1)


@final
@dataclasses.dataclass(frozen=True)
class PrototypeMatching(Loss):
    """`prototype_matching` as a term. The published weight is 0.01, with `gather: released`.

    Attributes:
        gather: See `released_gather`.
        average: See `prototype_matching`.
        setting: Setting of the scenario; decides how old classes are found (`old_classes`).
    """

    gather: Gather = "intended"
    average: AveragedOver = "classes"
    setting: ClassSetting = "overlapped"

    needs_old: ClassVar[bool] = True
    statistic: ClassVar[str] = "prototypes"
    expects_background_at_0: ClassVar[bool] = True
    needs_new_classes: ClassVar[bool] = True
    acts_on_features: ClassVar[bool] = True
    reads_old_labels: ClassVar[bool] = True

    def __call__(self, batch: LossInputs) -> Float[Tensor, ""]:
        features, old = batch.new.features.last_stage, batch.old_outputs.logits
        size = features.shape[2], features.shape[3]
        labels = old_classes(batch.annotated, old, size, self.setting == "sequential")
        prototypes = batch.statistics[self.statistic]["means"]
        return prototype_matching(features, labels, prototypes, self.average, self.gather)
