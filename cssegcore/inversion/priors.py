"""DeepInversion's image priors: neighbouring pixels are alike, and values are small.

Yin et al., Dreaming to Distill: Data-free Knowledge Transfer via DeepInversion, CVPR 2020,
https://arxiv.org/abs/1912.08795. Images are normalised like the network's input.
The gradient of a norm that is 0 is 0: for constant images and for images of zeros.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from cssegcore.core.precision import at_least_float32


def total_variation_l1(images: Float[Tensor, "b n h w"]) -> Float[Tensor, ""]:
    """Sums the mean absolute differences of neighbours over four directions.

    Means keep the balance with other terms for any batch size and image size.
    """
    sums = [
        d.abs().sum() / max(d.numel(), 1) for d in neighbour_differences(at_least_float32(images))
    ]
    return torch.stack(sums).sum()


def total_variation_l2(images: Float[Tensor, "b n h w"]) -> Float[Tensor, ""]:
    """Sums the L2 norms of the differences of neighbours over four directions.

    Deviation: as in the released code, each norm runs over the whole batch, is not squared and not
    divided. The term grows with the square root of the number of pixels in the batch: its published
    weight 1e-4 belongs to some 84 images of 224 x 224.
    """
    return torch.stack([_length(d) for d in neighbour_differences(at_least_float32(images))]).sum()


def image_l2(images: Float[Tensor, "b n h w"]) -> Float[Tensor, ""]:
    """Averages the images' L2 norms, which grow with the square root of the number of pixels."""
    rows = torch.linalg.vector_norm(at_least_float32(images), dim=-1)
    return torch.linalg.vector_norm(rows, dim=(1, 2)).mean()


def neighbour_differences(images: Float[Tensor, "b n h w"]) -> list[Float[Tensor, "b n _ _"]]:
    """Returns the differences to the right, downwards, and along both diagonals."""
    return [
        images[..., :-1] - images[..., 1:],
        images[..., :-1, :] - images[..., 1:, :],
        images[..., 1:, :-1] - images[..., :-1, 1:],
        images[..., :-1, :-1] - images[..., 1:, 1:],
    ]


def _length(values: Float[Tensor, "b n h w"]) -> Float[Tensor, ""]:
    # row by row: a single float32 norm of millions of numbers is off by up to 1e-3 on a CPU
    return torch.linalg.vector_norm(torch.linalg.vector_norm(values, dim=-1))
