"""EWF's fusion: each old weight becomes a mean of its values before and after the step.

Xiao et al., Endpoints Weight Fusion for Class Incremental Semantic Segmentation, CVPR 2023;
schuy1er/EWF_official, run.py.
"""

import dataclasses
import math
from typing import ClassVar, Literal, final

import torch
from jaxtyping import Float
from torch import Tensor

from cssegcore.core.tensors import Tensors
from cssegcore.method.after._base import After

RUNNING = ("running_mean", "running_var")
"""Last component of the names of running statistics."""


def share_of_new(num_old: int, num_new: int, rule: Literal["sqrt", "linear"] = "sqrt") -> float:
    """Computes m, the share of the new weights: the root of num_new / (num_old + num_new).

    Args:
        num_old: Classes of the previous model, background included.
        num_new: Classes that the step added.
        rule: `sqrt`, as published, or `linear`, the proportion without its root.
    """
    proportion = num_new / (num_old + num_new)
    return math.sqrt(proportion) if rule == "sqrt" else proportion


def change_threshold(old: Tensors, new: Tensors, fraction: float) -> Float[Tensor, ""]:
    """Finds the change |new - old| that `fraction` of all values of `old` reach or exceed.

    The value of rank floor(fraction · K) among K values, from the largest down, as released; rank
    1 if that is less.
    """
    changes = torch.cat([(new[name] - tensor).abs().flatten() for name, tensor in old.items()])
    rank = max(1, int(fraction * changes.numel()))
    return changes.kthvalue(changes.numel() - rank + 1).values


def fuse_weights(
    old: Tensors, new: Tensors, share: float, fraction: float = 0.0
) -> dict[str, Tensor]:
    """Computes (1 - m) · old + m · new for each floating-point tensor that both have.

    Tensors that only `new` has, new heads, and whole numbers, such as counters of batches, stay
    `new`. A variance is fused as the rest is, which is not the variance of the mixture: as
    released, and nothing is estimated anew.

    Args:
        old: Tensors before the step.
        new: Tensors after the step.
        share: m, in [0, 1].
        fraction: Fraction of the values, those that changed most (`change_threshold`), that are
            fused; the others stay `new`. 0 fuses all. In the released program, not in the paper.
    """
    shared = {name: tensor for name, tensor in old.items() if tensor.is_floating_point()}
    fused = {name: (1 - share) * tensor + share * new[name] for name, tensor in shared.items()}
    if fraction and shared:
        least = change_threshold(shared, new, fraction)
        for name, tensor in shared.items():
            small = (new[name] - tensor).abs() < least
            fused[name] = torch.where(small, new[name], fused[name])
    return {**new, **fused}


@final
@dataclasses.dataclass(frozen=True)
class WeightFusion(After):
    """`fuse_weights`, with the share of the new weights from the numbers of classes.

    Attributes:
        share: Rule for the share by the proportion of new classes; see `share_of_new`.
        statistics: Whether running statistics of normalisations are `fused` too, as released, or
            stay `new`.
        threshold: Fraction of the values that are fused, those that changed most; 0 fuses all.
            Published recipes have 0; the released program's option is 0.45.
    """

    share: Literal["sqrt", "linear"] = "sqrt"
    statistics: Literal["fused", "new"] = "fused"
    threshold: float = 0.0

    needs_old: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0 <= self.threshold < 1:
            raise ValueError(f"`threshold` must lie in [0, 1), got {self.threshold}")

    @torch.no_grad()
    def __call__(self, old: Tensors, new: Tensors, num_old: int, num_new: int) -> Tensors:
        if self.statistics == "new":
            old = {name: t for name, t in old.items() if not name.endswith(RUNNING)}
        share = share_of_new(num_old, num_new, self.share)
        return fuse_weights(old, new, share, self.threshold)
