"""The one counter of pixels; apart from `confusion`, whose readers need no torch."""

import torch
from jaxtyping import Int64, Integer
from torch import Tensor


def confusion_matrix(
    labels: Integer[Tensor, "*shape"], preds: Integer[Tensor, "*shape"], rows: int, columns: int
) -> Int64[Tensor, "{rows} {columns}"]:
    """Counts pixels by true class (row) and predicted class (column), on the device of `labels`.

    Pixels whose truth is no class (void, 255) are left out.

    Args:
        labels: True classes.
        preds: Predicted classes in [0, columns).
        rows: Number of true classes.
        columns: Number of predicted classes.
    """
    counted = (labels >= 0) & (labels < rows)
    cells = labels[counted].long() * columns + preds[counted]
    return torch.bincount(cells, minlength=rows * columns).reshape(rows, columns)
