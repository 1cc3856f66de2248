"""SSUL's weight transfer: a new class starts as the unknown class, which held it so far.

Cha et al., SSUL: Semantic Segmentation with Unknown Label for Exemplar-based Class-Incremental
Learning, NeurIPS 2021, https://arxiv.org/abs/2106.11562.
"""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar, final

from cssegcore.method.classifier_init._base import ClassifierInit
from cssegcore.models.heads import Head


@final
@dataclasses.dataclass(frozen=True)
class FromUnknown(ClassifierInit):
    """Copies the unknown class's head, its one row of scores repeated for every new class.

    Running statistics go along (where normalisation is frozen they would stay the identity); the
    number of batches that they have seen does not, as in the released code. No bias is corrected:
    the unknown class stays as probable as it was.
    """

    needs_unknown: ClassVar[bool] = True

    def __call__(self, heads: Sequence[Head]) -> None:
        assert heads[0].outputs == 1, "the unknown class has a head of its own"
        unknown = heads[0].state_dict()
        for name, value in heads[-1].state_dict().items():  # memory of the head itself, no gradient
            if value.is_floating_point():
                value.copy_(unknown[name])
