"""Riemannian walk: weights are held by Fisher information and by their path together.

Chaudhry et al., Riemannian Walk for Incremental Learning: Understanding Forgetting and
Intransigence, ECCV 2018, https://arxiv.org/abs/1801.10112.
"""

import dataclasses
from typing import ClassVar, final

from jaxtyping import Float
from torch import Tensor

from cssegcore.losses._base import Penalty, Weights
from cssegcore.losses._penalty import normalised, pull


@final
@dataclasses.dataclass(frozen=True)
class RiemannianWalk(Penalty):
    """Holds each weight by the sum of both, each normalised by itself. Published weight: 100."""

    normalise: bool = True

    statistic: ClassVar[str] = "walk"

    def __call__(self, weights: Weights) -> Float[Tensor, ""]:
        saved = weights.importance[self.statistic]
        values = normalised(saved) if self.normalise else saved
        fisher, path = "fisher/", "path/"
        importance = {
            name: values[fisher + name] + values[path + name]
            for name in weights.old
            if fisher + name in values and path + name in values
        }
        return pull(weights.now, weights.old, importance)
