"""PLOP's Local POD: strips of the squared feature maps stay as the old model has them.

Douillard et al., PLOP: Learning without Forgetting for Continual Semantic Segmentation, CVPR 2021,
https://arxiv.org/abs/2011.11390.
"""

import dataclasses
import math
from collections.abc import Sequence
from functools import lru_cache
from typing import ClassVar, Literal, final

import torch
from jaxtyping import Float
from torch import Tensor

from cssegcore.core.errors import InputError
from cssegcore.core.precision import at_least_float32
from cssegcore.core.ranges import non_negative
from cssegcore.core.types import BACKGROUND
from cssegcore.method.losses._base import Loss, LossInputs

Merge = Literal["sum", "trim"]
"""Treatment of new classes' scores: added to the background's, or left out."""


def strip_means(
    squared: Float[Tensor, "b n h w"], scales: Sequence[int]
) -> tuple[Float[Tensor, "b h strips n"], Float[Tensor, "b strips w n"]]:
    """Averages a map over the width, and over the height, of the windows of every scale.

    At scale s a map is cut into s x s windows, each a row of h // s by w // s pixels; what is left
    over at the bottom and right is dropped. The strips of scale 1 come first, then those of the
    next, each from left to right and from top to bottom; a window's mean over its columns is a
    strip's piece, its mean over its rows likewise. Both are one product with a small matrix.

    Raises:
        InputError: The map has fewer pixels than windows along an axis.
    """
    h, w = squared.shape[-2:]
    rows, columns = (_windows(n, tuple(scales), squared.dtype, squared.device) for n in (h, w))
    pixels = squared.permute(0, 2, 3, 1)  # convolutions leave channels last: no copy is made
    with torch.autocast(squared.device.type, enabled=False):  # which would cut digits off
        across = columns.means @ pixels
        down = (rows.means @ pixels.flatten(2)).unflatten(-1, pixels.shape[-2:])
    return across * rows.inside[:, :, None], down * columns.inside.T[:, :, None]


def strip_distance(
    old: Float[Tensor, "b n h w"], new: Float[Tensor, "b n h w"], scales: Sequence[int]
) -> Float[Tensor, " b"]:
    """Computes the distance of two maps' strips: one Euclidean norm for all scales of an image.

    Deviation: the paper sums squared norms over slices of the maps; the released code squares the
    maps (their sign is that before the activation) and takes a norm that is not squared. Nothing is
    normalised, and strips are averaged, not summed.

    Its gradient is 0 where the strips are equal. `old` gets none.
    """
    # the means are linear, so those of the difference of squares will do; in place, a map each less
    difference = at_least_float32(new).square().sub_(at_least_float32(old.detach()).square())
    strips = torch.cat([means.flatten(1) for means in strip_means(difference, scales)], 1)
    return torch.linalg.vector_norm(strips, dim=1)


def merge_new_classes(
    scores: Float[Tensor, "b c h w"], num_old: int, merge: Merge
) -> Float[Tensor, "b k h w"]:
    """Brings scores to the old model's `num_old` outputs.

    "sum" is the plain sum of logits, as released, and no log-sum-exp.
    """
    if merge == "trim":
        return scores[:, :num_old]
    scores = at_least_float32(scores)
    background = scores[:, :1] + scores[:, num_old:].sum(1, keepdim=True)
    return torch.cat([background, scores[:, BACKGROUND + 1 : num_old]], 1)


def local_pod(
    old_maps: Sequence[Float[Tensor, "b _ _ _"]],
    new_maps: Sequence[Float[Tensor, "b _ _ _"]],
    factors: Sequence[float],
    merge: Merge = "sum",
    scales: Sequence[int] = (1, 2, 4),
) -> Float[Tensor, " maps"]:
    """Computes the contribution of each map to the loss, which is their sum.

    Args:
        old_maps: Maps of the old model, shallow to deep; the last are its scores, not enlarged.
        new_maps: Maps of the network in training; the last may hold more outputs than the old ones.
        factors: Factor of each map; the released code's are divided by the number of maps, as here.
        merge: Treatment of new classes' scores in the last pair.
        scales: Windows along an axis.

    Raises:
        InputError: A map is smaller than the largest scale.
    """
    merged = merge_new_classes(new_maps[-1], old_maps[-1].shape[1], merge)
    pairs = zip(old_maps, [*new_maps[:-1], merged], factors, strict=True)
    values = [f * strip_distance(old, new, scales).mean() for old, new, f in pairs]
    return torch.stack(values) / len(values)


@dataclasses.dataclass(frozen=True)
class _Windows:
    """The windows of all scales along an axis of n pixels.

    Attributes:
        means: Rows that average a window each.
        inside: 1 where a pixel lies in a window of the strip's scale, 0 where it is left over.
    """

    means: Float[Tensor, "strips n"]
    inside: Float[Tensor, "n strips"]


@lru_cache(maxsize=256)
@torch.inference_mode(False)  # cached: a later caller may need a gradient through them
def _windows(
    size: int, scales: tuple[int, ...], dtype: torch.dtype, device: torch.device
) -> _Windows:
    if size < max(scales):
        raise InputError(
            f"Local POD cuts maps into {max(scales)} windows along each axis, and one has only"
            f" {size} pixels: leave out the larger of `method.losses.local_pod.scales`, or train on"
            " larger crops (`augmentation.size`)."
        )
    at, means, inside = torch.arange(size), [], []
    for scale in scales:
        length = size // scale
        member = (at // length == torch.arange(scale)[:, None]).to(dtype)
        means.append(member / length)
        inside.append(member.sum(0, keepdim=True).expand(scale, -1))
    return _Windows(torch.cat(means).to(device), torch.cat(inside).T.to(device))


@final
@dataclasses.dataclass(frozen=True)
class LocalPod(Loss):
    """`local_pod` over the backbone's stages, the decoder's features and the scores.

    Attributes:
        factor: Factor of the features; published 0.01 on VOC, 0.001 on ADE20K.
        last_factor: Factor of the scores; published 0.0005 on VOC, 0.00001 on ADE20K.
        merge: Treatment of the new classes' scores.
        schedule: Whether the term grows by sqrt(all classes / new classes).
        scales: Windows along an axis.
    """

    factor: float = 0.01
    last_factor: float = 0.0005
    merge: Merge = "sum"
    schedule: bool = True
    scales: tuple[int, ...] = (1, 2, 4)

    needs_old: ClassVar[bool] = True
    needs_stages: ClassVar[bool] = True
    expects_background_at_0: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        non_negative(factor=self.factor, last_factor=self.last_factor)
        if min(self.scales, default=0) < 1:
            raise ValueError(f"`scales` must be one or more numbers >= 1, got {self.scales}")

    def __call__(self, batch: LossInputs) -> Float[Tensor, ""]:
        old, new = (
            (*outputs.features.stages, outputs.features.decoder_out, outputs.logits_lowres)
            for outputs in (batch.old_outputs, batch.new)
        )
        c = batch.logits.shape[1]
        # a step that adds no class, of new domains, counts all as new, as published
        added = c - batch.num_old or c
        growth = math.sqrt(c / added) if self.schedule else 1.0
        factors = [growth * f for f in [self.factor] * (len(new) - 1) + [self.last_factor]]
        return local_pod(old, new, factors, self.merge, self.scales).sum()
