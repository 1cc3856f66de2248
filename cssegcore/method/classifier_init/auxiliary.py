"""DKD's initialisation: a new class starts as the auxiliary output, which no class has moved.

Baek et al., Decomposed Knowledge Distillation for Class-Incremental Semantic Segmentation (DKD),
NeurIPS 2022, https://arxiv.org/abs/2210.05941; cvlab-yonsei/DKD, models/model.py.
"""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar, final

import torch

from cssegcore.method.classifier_init._base import ClassifierInit
from cssegcore.models.heads import Head


@final
@dataclasses.dataclass(frozen=True)
class FromAuxiliary(ClassifierInit):
    """Copies the auxiliary output's head, its one row of scores repeated for every new class."""

    needs_auxiliary: ClassVar[bool] = True

    @torch.no_grad()
    def __call__(self, heads: Sequence[Head]) -> None:
        assert heads[0].outputs == 1, "the auxiliary output has a head of its own"
        auxiliary = heads[0].state_dict()
        for name, value in heads[-1].state_dict().items():  # memory of the head itself
            value.copy_(auxiliary[name])
