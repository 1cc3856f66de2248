"""Heads of random numbers, of any kind."""

import torch

from cssegcore.core.registry import build_part
from cssegcore.models.heads import HeadKind


def head_kind(part="conv"):
    return build_part("cssegcore.models.heads", HeadKind, {"part": part}, "x")


def make_heads(part, *outputs, depth=5):
    """Heads of random numbers, running statistics too."""
    rng = torch.Generator().manual_seed(sum(outputs))
    heads = [head_kind(part).build(depth, n) for n in outputs]
    for number, head in enumerate(heads):
        for value in head.state_dict().values():
            if value.is_floating_point():
                value.copy_(0.1 + torch.rand(value.shape, generator=rng))
            else:
                value.fill_(7 * (number + 1 < len(heads)))  # the last head is new
    return heads
