"""The exported network: photographs to labels, normalisation and decision included."""

from typing import final

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from cssegcore.models.segmenter import Segmenter, class_scores

INPUT = "photographs"
OUTPUTS = ("labels", "confidences", "scores")


@final
class PhotographNetwork(nn.Module):
    """A network that reads photographs as they are decoded, and decides as `predict` does."""

    mean: Tensor
    std: Tensor

    def __init__(self, segmenter: Segmenter) -> None:
        super().__init__()
        # a product with weights that may be trained is written for one number of photographs
        self.segmenter = segmenter.eval().requires_grad_(False)
        for name in ("mean", "std"):
            numbers = torch.tensor(getattr(segmenter.normalization, name))
            self.register_buffer(name, numbers.to(next(segmenter.parameters()).device))

    def forward(
        self, photographs: UInt8[Tensor, "b h w 3"]
    ) -> tuple[UInt8[Tensor, "b h w"], Float[Tensor, "b h w"], Float[Tensor, "b classes h w"]]:
        """Returns labels, the score of each pixel's label, and the scores of all classes."""
        seen = ((photographs.float() / 255 - self.mean) / self.std).permute(0, 3, 1, 2)
        segmenter = self.segmenter
        logits = segmenter(seen).logits
        labels = segmenter.classify(logits)
        scores = class_scores(logits, segmenter.unknown, segmenter.background)
        return labels.to(torch.uint8), scores.gather(1, labels[:, None])[:, 0], scores
