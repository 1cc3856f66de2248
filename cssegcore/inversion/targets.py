"""Class objectives: a network must see a label map, or the presence of a class.

A label map asks for a class at each pixel and for background around it: our extension of
DeepInversion (Yin et al., CVPR 2020, https://arxiv.org/abs/1912.08795), which asks for one class an
image. The only published attempt at class-incremental segmentation asks for a class's presence.
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Integer
from torch import Tensor

from cssegcore.core.precision import at_least_float32
from cssegcore.core.ranges import at_least, positive
from cssegcore.core.types import IGNORE


def bordered(label_maps: Integer[Tensor, "b h w"], border: int) -> Integer[Tensor, "b h w"]:
    """Sets to 255 the `border` pixels on each side of a change of label, diagonals included.

    The network enlarges its scores from a coarser grid, so they cannot follow an outline exactly.
    The border of the image is not a change of label.

    Raises:
        ValueError: `border` is below 0.
    """
    at_least(0, border=border)
    maps = label_maps.float()  # pooling needs floats; integers up to 255 are exact
    lowest, highest = (
        sign * F.max_pool2d(sign * maps, 2 * border + 1, stride=1, padding=border)
        for sign in (-1, 1)
    )
    return torch.where(lowest == highest, label_maps, IGNORE)


def class_weights(label_maps: Integer[Tensor, "b h w"], classes: int) -> Float[Tensor, " c"]:
    """Computes a weight for each class: (1 / its frequency in the batch)^½ times a constant.

    The constant makes the mean weight over the labelled pixels 1, so that the objective keeps its
    balance with the other terms for any share of background. A class that does not occur has weight
    0. Labels of `classes` and more are ignored.
    """
    counts = torch.bincount(label_maps.flatten().long(), minlength=classes)[:classes].float()
    roots = counts.sqrt()
    return torch.where(counts > 0, counts.sum() / (roots * roots.sum()), 0)


def label_map_objective(
    logits: Float[Tensor, "b c h w"], label_maps: Int[Tensor, "b h w"], weights: Float[Tensor, " c"]
) -> Float[Tensor, ""]:
    """Averages over the labelled pixels the cross-entropy times the weight of the pixel's class.

    If no pixel is labelled, the result and its gradient are 0.
    """
    scores = at_least_float32(logits)
    total = F.cross_entropy(
        scores, label_maps, weights.to(scores.dtype), ignore_index=IGNORE, reduction="sum"
    )
    return total / (label_maps != IGNORE).sum().clamp(min=1)


def pooled(logits: Float[Tensor, "b c h w"], sharpness: float) -> Float[Tensor, "b c"]:
    """Pools each class's scores s to (1/k) log mean exp(k s), k the sharpness.

    The result lies between the mean (k to 0) and the maximum (k to infinity).
    Pinheiro and Collobert, From Image-level to Pixel-level Labeling with Convolutional Networks,
    CVPR 2015, https://arxiv.org/abs/1411.6228.

    Raises:
        ValueError: `sharpness` is not a finite number > 0.
    """
    positive(sharpness=sharpness)
    scores = at_least_float32(logits).flatten(2)
    return ((sharpness * scores).logsumexp(2) - math.log(scores.shape[2])) / sharpness


def presence_objective(
    logits: Float[Tensor, "b c h w"], primaries: Int[Tensor, " b"], sharpness: float
) -> Float[Tensor, ""]:
    """Computes the cross-entropy of the `pooled` scores with the images' primary classes.

    As published by Di Salvo, La Malfa and Lacriola, who inverted a BiSeNet for replay,
    https://github.com/francescodisalvo05/incremental-learning-semantic-segmentation. The pooling is
    Yao et al.'s, Weakly Supervised Medical Diagnosis and Localization from Multiple Resolutions,
    https://arxiv.org/abs/1803.07703, whose sharpness r0 + e^b learns b. In the released inversion
    r0 is 0 and b is drawn from [0, 1) at each iteration; here the caller draws it.

    Deviation: as in the released code; the report has the sharpness elsewhere in the formula.
    The authors also ask for background; here the caller chooses the classes.
    """
    return F.cross_entropy(pooled(logits, sharpness), primaries)
