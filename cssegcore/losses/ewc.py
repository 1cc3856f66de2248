"""Elastic weight consolidation: weights that mattered to the old classes are held.

Kirkpatrick et al., Overcoming Catastrophic Forgetting in Neural Networks, PNAS 2017,
https://arxiv.org/abs/1612.00796.
"""

import dataclasses
from typing import ClassVar, final

from jaxtyping import Float
from torch import Tensor

from cssegcore.losses._base import Penalty, Weights
from cssegcore.losses._penalty import normalised, pull


@final
@dataclasses.dataclass(frozen=True)
class ElasticWeights(Penalty):
    """Holds each weight by its Fisher information. The published weight is 500.

    Deviation: Fisher information of the last iterations (see `statistics.fisher`), on a scale of
    each tensor's own unless `normalise` is false; the paper takes the diagonal as it is.
    """

    normalise: bool = True

    statistic: ClassVar[str] = "fisher"

    def __call__(self, weights: Weights) -> Float[Tensor, ""]:
        fisher = weights.importance[self.statistic]
        importance = normalised(fisher) if self.normalise else fisher
        return pull(weights.now, weights.old, importance)
