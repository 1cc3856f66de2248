"""The dear formulas as one writes them from the papers: windows, classes and bins in Python loops.

What the library's versions are timed against. Each pass over the pixels of a window, class or bin
is one tensor operation, and nothing is computed twice that a careful writer would compute once.
"""

import itertools
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from cssegcore.core.types import BACKGROUND, IGNORE


def embedding(features: Float[Tensor, "b n h w"], scales: Sequence[int]) -> Float[Tensor, "b _"]:
    """Averages the squares over rows and columns of each window: PLOP's equations 4 to 6."""
    squared, strips = features**2, []
    for scale in scales:
        height, width = (side // scale for side in squared.shape[-2:])
        for row in range(scale):
            for column in range(scale):
                window = squared[
                    :,
                    :,
                    row * height : (row + 1) * height,
                    column * width : (column + 1) * width,
                ]
                strips += [window.mean(3).flatten(1), window.mean(2).flatten(1)]
    return torch.cat(strips, 1)


def local_pod(
    old_maps: Sequence[Float[Tensor, "b _ _ _"]],
    new_maps: Sequence[Float[Tensor, "b _ _ _"]],
    factors: Sequence[float],
    scales: Sequence[int] = (1, 2, 4),
) -> Float[Tensor, ""]:
    """Sums the distances of all layers; the scores of new classes join the background's."""
    *features, scores = new_maps
    known = old_maps[-1].shape[1]
    background = scores[:, :1] + scores[:, known:].sum(1, keepdim=True)
    merged = torch.cat([background, scores[:, 1:known]], 1)
    total = scores.new_zeros(())
    for old, new, factor in zip(old_maps, [*features, merged], factors, strict=True):
        apart = embedding(old, scales) - embedding(new, scales)
        total = total + factor * apart.norm(dim=1).mean()
    return total / len(old_maps)


def unbiased_distillation(
    logits: Float[Tensor, "b c h w"], old_logits: Float[Tensor, "b k h w"]
) -> Float[Tensor, ""]:
    """Adds up MiB's equation 8 class by class; the mean runs over classes too, as released."""
    known = old_logits.shape[1]
    every, before = logits.logsumexp(1), old_logits.logsumexp(1)
    total = logits.new_zeros(())
    for label in range(known):
        believed = (old_logits[:, label] - before).exp()
        score = logits[:, label]
        if label == BACKGROUND:
            score = torch.cat([logits[:, :1], logits[:, known:]], 1).logsumexp(1)
        total = total - (believed * (score - every)).mean()
    return total / known


def unbiased_cross_entropy(
    logits: Float[Tensor, "b c h w"], labels: Int[Tensor, "b h w"], num_old: int
) -> Float[Tensor, ""]:
    """Adds up MiB's equation 5 class by class; 255 is no class, the mean runs over all pixels."""
    every, total = logits.logsumexp(1), logits.new_zeros(())
    for label in (BACKGROUND, *range(num_old, logits.shape[1])):
        score, mask = logits[:, label], labels == label
        if label == BACKGROUND:
            score, mask = logits[:, :num_old].logsumexp(1), labels < num_old
        total = total - ((score - every) * mask).sum()
    return total / labels.numel()


def scores(
    old_logits: Float[Tensor, "b k h w"], unit: float
) -> tuple[Float[Tensor, "b h w"], Int[Tensor, "b h w"]]:
    """Computes entropy and most likely class of each pixel, class by class."""
    every = old_logits.logsumexp(1)
    entropy, best = torch.zeros_like(every), old_logits[:, 0]
    predicted = torch.zeros_like(every, dtype=torch.int64)
    for label in range(old_logits.shape[1]):
        score = old_logits[:, label]
        log = score - every
        entropy = entropy - log.exp() * log
        predicted = torch.where(score > best, label, predicted)
        best = torch.maximum(best, score)
    return entropy / unit, predicted


def released_thresholds(
    uncertainty: Float[Tensor, "b h w"],
    predicted: Int[Tensor, "b h w"],
    counted: Bool[Tensor, "b h w"],
    shape: tuple[int, int],
    base: float,
) -> Float[Tensor, " classes"]:
    """Finds each class's threshold by the published search, which adds up bins' numbers."""
    classes, bins = shape
    thresholds = []
    for label in range(classes):
        of = (uncertainty[(predicted == label) & counted] * bins).long().clamp(max=bins - 1)
        held = [int((of == place).sum()) for place in range(bins)]
        thresholds.append(max(base, _searched(held, base)))
    return torch.tensor(thresholds, dtype=torch.float64)


def _searched(held: Sequence[int], base: float) -> float:
    """Searches one class's bins; a bin's number is its edge times their count, as released."""
    bins, half, run, edge, count = len(held), sum(held) / 2, 0.0, 0.0, 0
    for place in range(bins):
        edge = place / bins
        count = held[int(edge * bins)]
        if run <= half <= run + count:
            break
        run += edge * bins
    if count:
        return edge + (half - run) / count / bins
    return math.inf if half > run else base


def binary_cross_entropy(
    logits: Float[Tensor, "b c h w"], labels: Int[Tensor, "b h w"]
) -> Float[Tensor, ""]:
    """Adds up each output's yes or no; the mean runs over labelled pixels."""
    known, total = labels != IGNORE, logits.new_zeros(())
    for label in range(logits.shape[1]):
        sign = torch.where(labels == label, -1.0, 1.0)
        total = total + (F.softplus(sign * logits[:, label]) * known).sum()
    return total / known.sum()


def distillation(
    logits: Float[Tensor, "b c h w"], old_logits: Float[Tensor, "b k h w"]
) -> Float[Tensor, ""]:
    """Adds up the cross-entropy from the old model class by class, among the old ones alone."""
    known = old_logits.shape[1]
    every, before = logits[:, :known].logsumexp(1), old_logits.logsumexp(1)
    total = logits.new_zeros(())
    for label in range(known):
        believed = (old_logits[:, label] - before).exp()
        total = total - (believed * (logits[:, label] - every)).mean()
    return total / known


def pixels_by_class(
    features: Float[Tensor, "b n h w"], labels: Int[Tensor, "b h w"], classes: range
) -> dict[int, Float[Tensor, "_ n"]]:
    """Returns the features of each class that there is."""
    vectors = features.movedim(1, -1)
    owned = {label: vectors[labels == label] for label in classes}
    return {label: pixels for label, pixels in owned.items() if len(pixels)}


def prototype_matching(
    features: Float[Tensor, "b n h w"],
    labels: Int[Tensor, "b h w"],
    prototypes: Float[Tensor, "c n"],
) -> Float[Tensor, ""]:
    """Averages over the classes how far their means are from the prototypes; no background."""
    owned = pixels_by_class(features, labels, range(1, len(prototypes)))
    apart = [(pixels.mean(0) - prototypes[at]).square().mean() for at, pixels in owned.items()]
    return torch.stack(apart).mean()


def attraction(
    features: Float[Tensor, "b n h w"],
    labels: Int[Tensor, "b h w"],
    prototypes: Float[Tensor, "c n"],
) -> Float[Tensor, ""]:
    """Averages over the classes how far their pixels are from the prototypes."""
    owned = pixels_by_class(features, labels, range(len(prototypes)))
    apart = [(pixels - prototypes[at]).square().mean() for at, pixels in owned.items()]
    return torch.stack(apart).mean()


def repulsion(
    features: Float[Tensor, "b n h w"], labels: Int[Tensor, "b h w"], classes: int
) -> Float[Tensor, ""]:
    """Averages over the pairs of classes one over the distance of their means."""
    owned = pixels_by_class(features, labels, range(classes))
    means = [pixels.mean(0) for pixels in owned.values()]
    pairs = itertools.permutations(means, 2)
    return torch.stack([1 / (one - other).norm() for one, other in pairs]).mean()


def sparsification(
    features: Float[Tensor, "b n h w"], labels: Int[Tensor, "b h w"]
) -> Float[Tensor, ""]:
    """Scales each class by its maximum; adds up exponentials over sums, void a class like any."""
    total = features.new_zeros(())
    for pixels in pixels_by_class(features, labels, range(IGNORE + 1)).values():
        scaled = pixels / pixels.max()
        total = total + (scaled.exp().sum(1) / scaled.sum(1)).sum()
    return total / labels.numel()
