"""Path integral: weights are held that lowered the loss on the old classes.

Zenke et al., Continual Learning Through Synaptic Intelligence, ICML 2017,
https://arxiv.org/abs/1703.04200.
"""

import dataclasses
from typing import ClassVar, final

from cssegcore.method.losses._penalty import Pull


@final
@dataclasses.dataclass(frozen=True)
class PathIntegral(Pull):
    """Holds each weight by its part in the fall of the loss. The published weight is 500.

    Deviation: importance on a scale of each tensor's own unless `normalise` is false, as in the
    released code; the paper takes it as it is.
    """

    statistic: ClassVar[str] = "path"
