"""The dear formulas as one writes them from the papers: windows, classes and bins in Python loops.

What the library's versions are timed against. Each pass over the pixels of a window, class or bin
is one tensor operation, and nothing is computed twice that a careful writer would compute once.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from cssegcore.types import BACKGROUND


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
