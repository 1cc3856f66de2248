"""Elastic weight consolidation: weights that mattered to the old classes are held.

Kirkpatrick et al., Overcoming Catastrophic Forgetting in Neural Networks, PNAS 2017,
https://arxiv.org/abs/1612.00796.
"""

import dataclasses
from typing import ClassVar, final

from cssegcore.method.losses._penalty import Pull


@final
@dataclasses.dataclass(frozen=True)
class ElasticWeights(Pull):
    """Holds each weight by its Fisher information. The published weight is 500.

    Deviation: Fisher information of the last iterations (see `statistics.fisher`), on a scale of
    each tensor's own unless `normalise` is false; the paper takes the diagonal as it is.
    """

    statistic: ClassVar[str] = "fisher"
