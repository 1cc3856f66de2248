"""Scales of a loss whose batch is cut into micro-batches, so that their sum is the whole batch."""

import dataclasses
from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Int
from torch import Tensor

from cssegcore.core.errors import InputError
from cssegcore.method._class_features import nearest_labels
from cssegcore.method.losses import Loss
from cssegcore.runtime.distributed import all_reduce_sum, world

Scales = Mapping[str, float | Tensor]
"""The factor of each loss in one micro-batch, by the loss's name."""


@dataclasses.dataclass(frozen=True)
class PieceLabels:
    """The labels of a micro-batch.

    Attributes:
        labels: Labels to train on, pseudo-labels included.
        annotated: Labels as annotated.
        lowres: Height and width of `Outputs.logits_lowres`; only read for losses of that size.
    """

    labels: Int[Tensor, "_ h w"]
    annotated: Int[Tensor, "_ h w"]
    lowres: tuple[int, int] | None = None

    def of(self, loss: Loss) -> Int[Tensor, "_ hs ws"]:
        """Returns the labels that a loss is a mean over."""
        labels = self.annotated if loss.reads_annotated else self.labels
        if not loss.reads_lowres:
            return labels
        assert self.lowres is not None, "the objective measures maps for losses that read them"
        return nearest_labels(labels, self.lowres)


def check_pieces(step: str, images: int, pieces: int) -> None:
    """Checks that a batch of `images` images has one for each micro-batch of each process.

    Raises:
        InputError: It has fewer.
    """
    size = world().size
    if images < size * pieces:
        raise InputError(
            f"{step}: a batch of {images} images cannot be shared by {size} processes, each in"
            f" {pieces} pieces (`optimizer.accumulate`): run fewer processes"
            " (`CSSEGCORE_PROCESSES`), lower `accumulate`, or raise `optimizer.batch_size`."
        )


def loss_scales(losses: Mapping[str, Loss], pieces: Sequence[PieceLabels]) -> list[Scales]:
    """Returns the scale of each loss in each micro-batch.

    Each loss is a mean. Its scale in a micro-batch is the micro-batch's share of what the mean over
    the whole batch divides by (`Loss.normalizer`: pixels, or labelled pixels), times the number of
    processes. Scaled losses, summed over micro-batches and averaged over processes, are therefore
    the losses of the whole batch.

    Args:
        losses: The losses by name.
        pieces: Labels of this process's micro-batches.
    """
    size = world().size
    if size == 1 and len(pieces) == 1:
        return [dict.fromkeys(losses, 1.0)]
    counts = torch.stack(
        [
            torch.stack([loss.normalizer(piece.of(loss)) for loss in losses.values()])
            for piece in pieces
        ]
    )
    shares = size * counts / all_reduce_sum(counts.sum(0)).clamp(min=1)
    return [dict(zip(losses, row, strict=True)) for row in shares.float()]
