"""Riemannian walk: weights are held by Fisher information and by their path together.

Chaudhry et al., Riemannian Walk for Incremental Learning: Understanding Forgetting and
Intransigence, ECCV 2018, https://arxiv.org/abs/1801.10112.
"""

import dataclasses
from typing import ClassVar, final

from cssegcore.core.tensors import Tensors
from cssegcore.method.losses._penalty import Pull


@final
@dataclasses.dataclass(frozen=True)
class RiemannianWalk(Pull):
    """Holds each weight by the sum of both, each normalised by itself. Published weight: 100."""

    statistic: ClassVar[str] = "walk"

    def importance(self, saved: Tensors) -> Tensors:
        both, fisher = super().importance(saved), "fisher/"
        names = [name.removeprefix(fisher) for name in both if name.startswith(fisher)]
        return {name: both[fisher + name] + both[f"path/{name}"] for name in names}
