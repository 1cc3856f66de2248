"""DeepInversion's priors of an image: neighbouring pixels are alike, and none is extreme.

Yin et al., Dreaming to Distill: Data-free Knowledge Transfer via DeepInversion, CVPR 2020,
https://arxiv.org/abs/1912.08795. Images are normalised as the network takes them.
Gradients are 0 where a norm is: of constant images, and of black ones.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from cssegcore.core.precision import at_least_float32


def total_variation_l1(images: Float[Tensor, "b n h w"]) -> Float[Tensor, ""]:
    """Sums the mean absolute differences of neighbours over four directions.

    Means, so that neither batch nor size changes the balance with other terms.
    """
    sums = [
        d.abs().sum() / max(d.numel(), 1) for d in neighbour_differences(at_least_float32(images))
    ]
    return torch.stack(sums).sum()


def total_variation_l2(images: Float[Tensor, "b n h w"]) -> Float[Tensor, ""]:
    """Sums the lengths of the whole batch's differences of neighbours over four directions.

    Deviation: as in the released code, each is one norm over all images, not squared and not
    divided, so the term grows with the root of the pixels in the batch: its published weight 1e-4
    belongs to some 84 images of 224 x 224.
    """
    return torch.stack([_length(d) for d in neighbour_differences(at_least_float32(images))]).sum()


def image_l2(images: Float[Tensor, "b n h w"]) -> Float[Tensor, ""]:
    """Averages the images' lengths, which are not squared and grow with the root of the pixels."""
    rows = torch.linalg.vector_norm(at_least_float32(images), dim=-1)
    return torch.linalg.vector_norm(rows, dim=(1, 2)).mean()


def neighbour_differences(images: Float[Tensor, "b n h w"]) -> list[Float[Tensor, "b n _ _"]]:
    """Returns what differs to the right, below, and along both diagonals."""
    return [
        images[..., :-1] - images[..., 1:],
        images[..., :-1, :] - images[..., 1:, :],
        images[..., 1:, :-1] - images[..., :-1, 1:],
        images[..., :-1, :-1] - images[..., 1:, 1:],
    ]


def _length(values: Float[Tensor, "b n h w"]) -> Float[Tensor, ""]:
    # row by row: in one go, float32 on a CPU is off by up to 1e-3 at a few million numbers
    return torch.linalg.vector_norm(torch.linalg.vector_norm(values, dim=-1))
