"""How much a term counts that sees only a part of a batch."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Int
from torch import Tensor

from cssegcore.core.errors import InputError
from cssegcore.data.batch import Batch
from cssegcore.method.losses import Loss
from cssegcore.method.method import Method
from cssegcore.runtime.distributed import all_reduce_sum, world

Factors = Mapping[str, float | Tensor]
"""What each term of a piece is multiplied by, by its name."""


def check_pieces(step: str, images: int, pieces: int) -> None:
    """Makes sure that a batch of so many images can be shared by the processes.

    Raises:
        InputError: There is none for each piece of each process.
    """
    size = world().size
    if images < size * pieces:
        raise InputError(
            f"{step}: a batch of {images} images cannot be shared by {size} processes, each in"
            f" {pieces} pieces (`optimizer.accumulate`): run fewer processes"
            " (`CSSEGCORE_PROCESSES`), lower `accumulate`, or raise `optimizer.batch_size`."
        )


def factors(method: Method, pieces: Sequence[Batch]) -> list[Factors]:
    """Returns the factors of a batch's pieces: the terms' weights, times what a piece counts.

    The products, summed over the pieces and averaged over the processes, are the terms of the whole
    batch: each is a mean, and a piece counts as much as it has of what the mean divides by.

    Args:
        method: Whose terms; those over replayed batches included.
        pieces: This process's share of the batch.
    """
    found = _factors(method.losses, [piece.labels for piece in pieces])
    beside = [piece.replayed.labels for piece in pieces if piece.replayed is not None]
    again = _factors(method.replayed, beside) if beside else [{}] * len(pieces)
    return [{**own, **other} for own, other in zip(found, again, strict=True)]


def _factors(losses: Mapping[str, Loss], pieces: Sequence[Int[Tensor, "_ h w"]]) -> list[Factors]:
    size = world().size
    if size == 1 and len(pieces) == 1:
        return [{name: loss.weight for name, loss in losses.items()}]
    counts = torch.stack(
        [torch.stack([loss.normalizer(labels) for loss in losses.values()]) for labels in pieces]
    )
    shares = size * counts / all_reduce_sum(counts.sum(0)).clamp(min=1)
    return [
        {n: loss.weight * share for (n, loss), share in zip(losses.items(), row, strict=True)}
        for row in shares.float()
    ]
