"""Batches after their forward passes, made of what a test cares about."""

import numpy as np
import torch
from torch import Tensor

from cssegcore.method.losses import LossInputs
from cssegcore.models.outputs import Features, Outputs

OLD, ALL = 3, 6
"""Outputs of the old model and of the new one in `random_batch`."""


def make_inputs(
    logits: Tensor,
    labels: Tensor,
    old_logits: Tensor | None = None,
    *,
    last_stage: Tensor | None = None,
    old_body: Tensor | None = None,
    annotated: Tensor | None = None,
) -> LossInputs:
    """Returns a batch; without `annotated`, nothing was added to what is annotated."""
    return LossInputs(
        make_outputs(logits, last_stage),
        None if old_logits is None else make_outputs(old_logits, old_body),
        labels,
        labels if annotated is None else annotated,
        1 if old_logits is None else old_logits.shape[1],
    )


def make_outputs(logits: Tensor, last_stage: Tensor | None = None) -> Outputs:
    """Returns outputs without an enlargement; without `last_stage`, the features are zeros."""
    if last_stage is None:
        last_stage = logits.new_zeros(len(logits), 1, 1, 1)
    top = logits.new_zeros(len(logits), 1, *logits.shape[-2:])
    return Outputs(logits, logits, Features((), last_stage, top))


def random_batch(
    seed: int, b: int = 2, h: int = 4, w: int = 5, scale: float = 2.0
) -> tuple[Tensor, Tensor, Tensor]:
    """Returns logits and old logits in float64, and labels of all kinds: old, new, ignored."""
    rng = np.random.default_rng(seed)
    logits, old = (scale * rng.standard_normal((b, c, h, w)) for c in (ALL, OLD))
    labels = rng.integers(0, ALL, (b, h, w))
    labels[rng.random((b, h, w)) < 0.3] = 255
    labels[0, 0, :2] = 0, ALL - 1
    return torch.tensor(logits, requires_grad=True), torch.tensor(old), torch.tensor(labels)


KNOWN = (2, 4)
"""Outputs that the teachers of two images know, of six, in `teacher_batch`."""


def teacher_batch() -> tuple[Tensor, Tensor]:
    """Returns a network's scores and those of the teachers, which know different classes."""
    rng = np.random.default_rng(0)
    logits, teacher_scores = rng.normal(0, 2, (2, 6, 3, 4)), rng.normal(0, 2, (2, 4, 3, 4))
    for image, known in enumerate(KNOWN):
        teacher_scores[image, known:] = -np.inf
    return torch.from_numpy(logits), torch.from_numpy(teacher_scores)
