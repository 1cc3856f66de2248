"""Random tensors, gradients and plain loops that the tests of formulas share."""

import math

import numpy as np
import torch
from torch import nn

from cssegcore.inversion.feature_statistics import batch_norms
from cssegcore.inversion.priors import image_l2, total_variation_l2


def random(*shape, seed=0, scale=1.0):
    return torch.tensor(scale * np.random.default_rng(seed).standard_normal(shape))


def leaf(values):
    return values.clone().requires_grad_()


def gradient(value, of):
    return torch.autograd.grad(value, of)[0]


def plain_differences(images):
    """The differences of each pixel from the one on the right, below, and on both diagonals."""
    b, n, h, w = images.shape
    steps = [(0, 1), (1, 0), (-1, 1), (1, 1)]
    pixels = [(y, x) for y in range(h) for x in range(w)]
    return [
        [
            images[i, k, y, x] - images[i, k, y + dy, x + dx]
            for i in range(b)
            for k in range(n)
            for y, x in pixels
            if 0 <= y + dy < h and x + dx < w
        ]
        for dy, dx in steps
    ]


def plain_length(values):
    return math.sqrt(math.fsum(v * v for v in values))


def plain_prior(prior, images):
    if prior is image_l2:
        return math.fsum(plain_length(image.ravel()) for image in images) / len(images)
    differences = plain_differences(images)
    if prior is total_variation_l2:
        return math.fsum(plain_length(d) for d in differences)
    return math.fsum(math.fsum(abs(v) for v in d) / len(d) for d in differences)


def released_factors(network: nn.Module, first: float = 10.0) -> dict[str, float]:
    """The released code's factor of each layer: `first` for the first of its modules, else 1."""
    names = list(batch_norms(network))
    return dict.fromkeys(names, 1.0) | {names[0]: first}
