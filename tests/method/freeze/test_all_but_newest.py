import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from cssegcore.core.errors import InputError
from cssegcore.core.registry import build_part
from cssegcore.core.types import UpdateFactors
from cssegcore.method.freeze import Freeze
from cssegcore.method.losses.bce import binary_cross_entropy
from cssegcore.models._base import FeatureExtractor
from cssegcore.models.outputs import Features
from cssegcore.models.segmenter import Segmenter
from tests.helpers.random_heads import head_kind
from tests.helpers.tiny_training import Layers, state

torch.set_num_threads(1)


class Blurred(FeatureExtractor):
    """An extractor with all that freezing has to tell apart: weights, a norm, dropout."""

    channels = last_stage_channels = 4

    def __init__(self):
        super().__init__()
        self.backbone = Layers(nn.Conv2d(3, 4, 3, padding=1))
        self.norm = nn.BatchNorm2d(4)
        self.dropout = nn.Dropout(0.5)

    def forward(self, images):
        body = self.backbone(images)
        return Features((body,), body, self.dropout(F.relu(self.norm(body))))


def grown(part="conv", outputs=(3, 1)):
    torch.manual_seed(0)
    segmenter = Segmenter(Blurred(), head_kind(part), list(outputs), "sigmoid")
    segmenter(torch.randn(2, 3, 8, 8))  # moves the statistics of the norms
    segmenter.grow(2)
    return segmenter


def freeze(segmenter, **numbers):
    part = build_part("cssegcore.method.freeze", Freeze, {"part": "all_but_newest", **numbers}, "x")
    return part(segmenter)


CONVOLUTIONS = ("convolution.weight", "classifier.weight", "classifier.bias")
TRAINED = {f"heads.{head}.{name}" for head in (0, 1, 4) for name in CONVOLUTIONS}


class TestAllButNewest:
    def test_what_is_trained_and_how_fast(self):
        segmenter = grown()
        rates = freeze(segmenter)
        assert {n for n, p in segmenter.named_parameters() if p.requires_grad} == TRAINED
        assert rates == {f"heads.1.{name}": UpdateFactors(lr=1e-4) for name in CONVOLUTIONS}
        assert set(freeze(grown(), background_lr=0.5).values()) == {UpdateFactors(lr=0.5)}

    def test_linear_heads(self):
        segmenter = grown("linear")
        rates = freeze(segmenter)
        trained = {n for n, p in segmenter.named_parameters() if p.requires_grad}
        assert trained == {
            f"heads.{h}.classifier.{n}" for h in (0, 1, 4) for n in ("weight", "bias")
        }
        assert set(rates) == {"heads.1.classifier.weight", "heads.1.classifier.bias"}

    def test_nothing_else_moves_in_training_and_these_do(self):
        segmenter = grown()
        rates = freeze(segmenter)
        before = state(segmenter)
        images, labels = torch.randn(4, 3, 8, 8), torch.randint(0, 6, (4, 8, 8))
        steps = {name: 0.0 for name in TRAINED}
        for _ in range(3):
            segmenter.train()
            loss = binary_cross_entropy(segmenter(images).logits, labels)
            segmenter.zero_grad()
            loss.backward()
            with torch.no_grad():
                for name, weight in segmenter.named_parameters():
                    if weight.requires_grad:
                        change = (
                            0.1
                            * rates.get(name, UpdateFactors()).lr
                            * (weight.grad + 0.01 * weight)
                        )
                        weight -= change
                        steps[name] += change.abs().max().item()
            segmenter.eval()
        after = state(segmenter)
        assert {name for name in before if before[name] != after[name]} == TRAINED
        slow = max(steps[name] for name in rates)
        assert 0 < slow < 0.01 * min(steps[name] for name in TRAINED - rates.keys())

    def test_training_keeps_dropout_and_takes_statistics_as_they_are(self):
        segmenter = grown().eval()
        images = torch.randn(2, 3, 8, 8)
        quiet = segmenter(images).logits
        freeze(segmenter)
        segmenter.train()
        first, second = segmenter(images), segmenter(images)
        assert not torch.equal(first.logits, second.logits)
        segmenter.extractor.dropout.eval()
        assert torch.allclose(segmenter(images).logits, quiet, atol=1e-6)

    def test_the_base_heads_count_as_old_one_step_later(self):
        segmenter = grown(outputs=(3, 1, 2))
        freeze(segmenter)
        trained = {int(n.split(".")[1]) for n, p in segmenter.named_parameters() if p.requires_grad}
        assert trained == {0, 1, 5}

    @pytest.mark.parametrize("number", [-1, math.inf, math.nan])
    def test_refusals(self, number):
        with pytest.raises(InputError, match=rf"`x`: `background_lr`.*got {float(number)}"):
            freeze(grown(), background_lr=number)
