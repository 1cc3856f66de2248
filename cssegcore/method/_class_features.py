"""Sums, means and distances of a batch's features, by class.

SDR's statistic and losses share these. Class ids are network outputs; any label that is not among
the classes asked for, such as 255, takes no part. No loop over classes, no wait for the device.
Sums and counts are over the batches of all processes.

Michieli and Zanuttigh, Continual Semantic Segmentation via Repulsion-Attraction of Sparse and
Disentangled Latent Representations, CVPR 2021, https://arxiv.org/abs/2103.06342.
"""

from typing import Literal

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from cssegcore.core.precision import at_least_float32
from cssegcore.runtime.distributed import all_reduce_sum

Gather = Literal["intended", "released"]
"""Feature vector of a pixel: its channels (`intended`), or the values of `released_gather`."""


def nearest_labels(
    maps: Shaped[Tensor, "*n h w"], size: tuple[int, int]
) -> Shaped[Tensor, "*n hs ws"]:
    """Takes the pixels floor(i · in / out) of both axes, in whole numbers.

    Of labels it gives labels; and the arg-max of sampled logits is the sampled arg-max.
    """
    rows, columns = (
        torch.arange(out, device=maps.device) * full // out
        for full, out in zip(maps.shape[-2:], size, strict=True)
    )
    return maps[..., rows[:, None], columns]


def class_sums(
    features: Float[Tensor, "b n h w"], labels: Int[Tensor, "b h w"], classes: int
) -> tuple[Float[Tensor, "c n"], Int[Tensor, " c"]]:
    """Sums the features of each class's pixels over the batch, and counts the pixels.

    A product with the one-hot labels: same numbers on every run, where adding by index on a GPU is
    not. Autocast would round the features.
    """
    ids = torch.arange(classes, device=labels.device)[:, None]
    owned = labels.flatten(1)[:, None] == ids
    with torch.autocast(features.device.type, enabled=False):
        features = at_least_float32(features).flatten(2)
        sums = torch.bmm(owned.to(features.dtype), features.mT).sum(0)
    return all_reduce_sum(sums), all_reduce_sum(owned.sum((0, 2)))


def class_means(
    features: Float[Tensor, "b n h w"], labels: Int[Tensor, "b h w"], classes: int
) -> tuple[Float[Tensor, "c n"], Int[Tensor, " c"]]:
    """Averages the features of each class's pixels over the batch; 0 for a class without any."""
    sums, counts = class_sums(features, labels, classes)
    return sums / counts.clamp(min=1)[:, None], counts


def class_distances(
    features: Float[Tensor, "b n h w"],
    labels: Int[Tensor, "b h w"],
    prototypes: Float[Tensor, "c n"],
) -> tuple[Float[Tensor, " c"], Int[Tensor, " c"]]:
    """Averages (f − p_c)² over the pixels of class c and over the channels; counts the pixels."""
    known = torch.where(labels < len(prototypes), labels, 0)
    squares = (at_least_float32(features).movedim(1, -1) - prototypes[known]).square().mean(-1)
    means, counts = class_means(squares[:, None], labels, len(prototypes))
    return means[:, 0], counts


def released_gather(
    features: Float[Tensor, "b n h w"], labels: Int[Tensor, "b h w"], layout: Literal["n p", "p n"]
) -> Float[Tensor, "b n h w"]:
    """Mixes the features of each class as the released code does.

    It picks the values of a class's p pixels in the order image, channel, row, column and reshapes
    them to a matrix. That order is neither: `n p` is right where one image alone holds the class,
    `p n` where each holds one pixel of it. Here each pixel is given what the matrix says is its
    vector, so that the formulas that follow need not know.

    Loops over classes and waits for the device: it is here for its numbers. Of several processes
    each mixes its own images, as there.
    """
    channels = features.shape[1]
    mixed = features.movedim(1, -1).clone()
    for label in labels.unique():
        owned = labels == label
        values = features[owned[:, None].expand_as(features)]
        mixed[owned] = (
            values.reshape(channels, -1).T if layout == "n p" else values.reshape(-1, channels)
        )
    return mixed.movedim(-1, 1)
