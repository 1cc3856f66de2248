"""What an inverted segmentation network is asked to show: a layout, or that a class is there.

A layout asks for a class at each pixel and for background around it: our extension of DeepInversion
(Yin et al., CVPR 2020, https://arxiv.org/abs/1912.08795), which asks for one class an image. That a
class is there is what the one published attempt at class-incremental segmentation asked for.
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Integer
from torch import Tensor

from cssegcore.core.precision import at_least_float32
from cssegcore.core.types import IGNORE


def bordered(layouts: Integer[Tensor, "b h w"], border: int) -> Integer[Tensor, "b h w"]:
    """Labels 255 the `border` pixels on each side of a change of label, diagonals included.

    Scores are enlarged from a coarser grid, which cannot follow an outline to the pixel. The rim
    of the image is no change.

    Raises:
        ValueError: `border` is below 0.
    """
    if border < 0:
        raise ValueError(f"`border` must be at least 0, got {border}")
    maps = layouts.float()  # pools take no bytes; up to 255 nothing is rounded
    lowest, highest = (
        sign * F.max_pool2d(sign * maps, 2 * border + 1, stride=1, padding=border)
        for sign in (-1, 1)
    )
    return torch.where(lowest == highest, layouts, IGNORE)


def class_weights(layouts: Integer[Tensor, "b h w"], classes: int) -> Float[Tensor, " c"]:
    """Computes the weights (1 / frequency)^½ of each class's pixels in the batch, times a constant.

    The constant makes the mean over the labelled pixels 1, not that over the classes: the objective
    then weighs the same against the other terms whatever share of the layouts is background. A
    class that does not occur has weight 0. Labels that are no network output do not count.
    """
    counts = torch.bincount(layouts.flatten().long(), minlength=classes)[:classes].float()
    roots = counts.sqrt()
    return torch.where(counts > 0, counts.sum() / (roots * roots.sum()), 0)


def layout_objective(
    logits: Float[Tensor, "b c h w"], layouts: Int[Tensor, "b h w"], weights: Float[Tensor, " c"]
) -> Float[Tensor, ""]:
    """Averages over the labelled pixels their cross-entropy times their class's weight.

    0, as is its gradient, if no pixel is labelled.
    """
    scores = at_least_float32(logits)
    total = F.cross_entropy(
        scores, layouts, weights.to(scores.dtype), ignore_index=IGNORE, reduction="sum"
    )
    return total / (layouts != IGNORE).sum().clamp(min=1)


def pooled(logits: Float[Tensor, "b c h w"], sharpness: float) -> Float[Tensor, "b c"]:
    """Pools each class's scores s to (1/k) log mean exp(k s), k the sharpness.

    That is between the mean (k to 0) and the maximum (k to infinity). Pinheiro and Collobert, From
    Image-level to Pixel-level Labeling with Convolutional Networks, CVPR 2015,
    https://arxiv.org/abs/1411.6228.

    Raises:
        ValueError: `sharpness` is not a finite number > 0.
    """
    if not 0 < sharpness < math.inf:
        raise ValueError(f"`sharpness` must be a finite number > 0, got {sharpness}")
    scores = at_least_float32(logits).flatten(2)
    return ((sharpness * scores).logsumexp(2) - math.log(scores.shape[2])) / sharpness


def presence_objective(
    logits: Float[Tensor, "b c h w"], primaries: Int[Tensor, " b"], sharpness: float
) -> Float[Tensor, ""]:
    """Computes the cross-entropy of the images' primary classes with the `pooled` scores.

    As published by Di Salvo, La Malfa and Lacriola, who inverted a BiSeNet for replay,
    https://github.com/francescodisalvo05/incremental-learning-semantic-segmentation. The pooling is
    Yao et al.'s, Weakly Supervised Medical Diagnosis and Localization from Multiple Resolutions,
    https://arxiv.org/abs/1803.07703, whose sharpness r0 + e^b learns b. In the released inversion
    r0 is 0 and b uniform in [0, 1), drawn anew at each iteration: here the caller draws it.

    Deviation: as released, where the report prints the sharpness in another place of the formula.
    Background was among the classes asked for; here the caller chooses them.
    """
    return F.cross_entropy(pooled(logits, sharpness), primaries)
