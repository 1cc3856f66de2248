"""The incremental segmenter: a trunk and one 1x1 classifier a step, outputs concatenated."""

from collections.abc import Sequence
from typing import final

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from cssegcore.networks._base import Trunk


@final
class Segmenter(nn.Module):
    """Trunk -> heads -> logits at the photograph's size.

    As in MiB (Cermelli et al., CVPR 2020): logits are upsampled bilinearly (corners not aligned)
    inside the network, so that every loss acts on full-size logits.
    """

    def __init__(self, trunk: Trunk, outputs: Sequence[int]) -> None:
        """Builds one head for each entry of `outputs`; the first counts the background."""
        super().__init__()
        self.trunk = trunk
        self.heads = nn.ModuleList(nn.Conv2d(trunk.channels, n, 1) for n in outputs)

    def grow(self, outputs: int) -> None:
        """Adds the head of a new step, with PyTorch's own initialisation."""
        head = nn.Conv2d(self.trunk.channels, outputs, 1)
        self.heads.append(head.to(next(self.parameters()).device))

    @property
    def outputs(self) -> list[int]:
        """Number of outputs of each head."""
        return [head.out_channels for head in self.classifiers]

    @property
    def classifiers(self) -> list[nn.Conv2d]:
        """The heads in the order of their steps."""
        return [head for head in self.heads if isinstance(head, nn.Conv2d)]

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b c h w"]:
        """Computes logits, in float32 also under autocast: losses need the digits."""
        features = self.trunk(images)
        logits = torch.cat([head(features) for head in self.heads], dim=1)
        planes = logits.float().contiguous()  # upsampling is quicker on planes
        return F.interpolate(planes, images.shape[-2:], mode="bilinear")
