"""SDR's prototypes: the running mean of the features of each class.

Michieli and Zanuttigh, Continual Semantic Segmentation via Repulsion-Attraction of Sparse and
Disentangled Latent Representations, CVPR 2021, https://arxiv.org/abs/2103.06342.
"""

import dataclasses
from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cssegcore.core.tensors import Tensors
from cssegcore.core.types import BACKGROUND, IGNORE, ClassSetting
from cssegcore.method._class_features import Gather, class_sums, nearest_labels, released_gather
from cssegcore.method.statistics._base import Accumulator, Statistic, StatisticContext
from cssegcore.models.outputs import Outputs


def without_background(
    labels: Int[Tensor, "b h w"], setting: ClassSetting, index: int, gather: Gather = "intended"
) -> Int[Tensor, "b h w"]:
    """Ignores the background where it may hide other classes.

    Overlapped and partitioned images hide old and new ones in every step, disjoint ones old ones
    after the base step (`index` 0), sequential ones none.

    Deviation: the released code (`released`) drops the smallest id of the batch, which in a batch
    without background is a class; and it breaks off at a batch of nothing else, which here adds
    nothing.
    """
    if setting == "sequential" or (setting == "disjoint" and index == 0):
        return labels
    left_out = BACKGROUND if gather == "intended" else labels.min()
    return torch.where(labels == left_out, IGNORE, labels)


def update_prototypes(
    means: Float[Tensor, "c n"],
    counts: Int[Tensor, " c"],
    features: Float[Tensor, "b n h w"],
    labels: Int[Tensor, "b h w"],
    gather: Gather = "intended",
) -> tuple[Float[Tensor, "c n"], Int[Tensor, " c"]]:
    """Adds a batch to the mean over all pixels so far, all epochs alike.

    Args:
        means: Mean feature of each class over its `counts` pixels so far.
        counts: Number of those pixels of each class.
        features: Features of the batch.
        labels: Labels at the size of the features; 255 takes no part.
        gather: See `released_gather`; a mean's is `n p`.
    """
    if gather == "released":
        features = released_gather(features, labels, "n p")
    sums, found = class_sums(features, labels, len(means))
    total = counts + found
    # not (sum + count · mean) / total: products with millions of pixels would cost float32 digits
    step = (sums - found[:, None] * means) / total.clamp(min=1)[:, None]
    return means + step.to(means.dtype), total


@final
@dataclasses.dataclass(frozen=True)
class Prototypes(Statistic):
    """Means of `Features.last_stage` by class.

    It saves `means` [c, n], and in `counts` [c] the number of pixels behind each mean.
    Old classes go on from the previous step; what was left out of every batch stays 0.

    Attributes:
        gather: See `released_gather`.
        setting: The scenario's setting; says where background is left out (`without_background`).
    """

    gather: Gather = "intended"
    setting: ClassSetting = "overlapped"

    def start(self, context: StatisticContext) -> Accumulator:
        return _Running(self, context)


class _Running(Accumulator):
    def __init__(self, part: Prototypes, context: StatisticContext) -> None:
        self._part, self._index = part, context.index
        self.previous = context.previous or {}
        device = next((w.device for w in context.weights.values()), None)
        self._means = torch.zeros(context.outputs, context.depth, device=device)
        self._counts = torch.zeros(context.outputs, dtype=torch.int64, device=device)
        if context.num_old > 1:
            k = context.num_old
            shapes = {"means": (k, context.depth), "counts": (k,)}
            old = context.rows_of_old_classes("prototypes", shapes)
            self._means[:k], self._counts[:k] = old["means"], old["counts"]

    @torch.no_grad()
    def update_batch(self, outputs: Outputs, labels: Int[Tensor, "b h w"]) -> None:
        features = outputs.features.last_stage
        labels_lowres = nearest_labels(labels, (features.shape[2], features.shape[3]))
        labels_lowres = without_background(
            labels_lowres, self._part.setting, self._index, self._part.gather
        )
        self._means, self._counts = update_prototypes(
            self._means, self._counts, features, labels_lowres, self._part.gather
        )

    @property
    def state(self) -> dict[str, Tensor]:
        return {"means": self._means, "counts": self._counts}

    @state.setter
    def state(self, state: Tensors) -> None:
        self._means, self._counts = state["means"], state["counts"]

    def result(self) -> dict[str, Tensor]:
        return self.state
