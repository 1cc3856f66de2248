import math

import numpy as np
import pytest
import torch

from cssegcore.core.errors import InputError
from cssegcore.core.registry import build_part
from cssegcore.method.losses import Loss, LossInputs
from cssegcore.method.losses.adaptive_ce import (
    AdaptiveCrossEntropy,
    accepted_share,
    adaptive_cross_entropy,
)
from cssegcore.method.losses.ce import cross_entropy
from cssegcore.models.outputs import Features, Outputs

OLD, ALL = 3, 5


def labelled(seed, b=3, h=4, w=5):
    """Logits, annotations (new classes, background, 255), and final labels, some refused."""
    rng = np.random.default_rng(seed)
    logits = torch.tensor(rng.standard_normal((b, ALL, h, w)), requires_grad=True)
    annotated = rng.choice([0, OLD, ALL - 1, 255], (b, h, w))
    labels = np.where(annotated == 0, rng.choice([0, 1, OLD - 1, 255], (b, h, w)), annotated)
    return logits, torch.tensor(annotated), torch.tensor(labels)


class TestAdaptiveCrossEntropy:
    @pytest.mark.parametrize("floor", [0.0, 0.6])
    def test_against_plain_loops(self, floor):
        logits, annotated, labels = labelled(30)
        total = 0.0
        for z, y, a in zip(logits.detach().numpy(), labels.numpy(), annotated.numpy(), strict=True):
            background = sum(v < OLD for v in a.ravel())
            kept = sum(v < OLD and u != 255 for u, v in zip(y.ravel(), a.ravel(), strict=True))
            share = max(floor, kept / (background + 1e-6))
            for i, j in np.ndindex(y.shape):
                if y[i, j] != 255:
                    log_sum = math.log(math.fsum(math.exp(s) for s in z[:, i, j]))
                    total += share * (log_sum - z[y[i, j], i, j])
        got = adaptive_cross_entropy(logits, labels, annotated, OLD, floor)
        assert got.item() == pytest.approx(total / labels.numel(), rel=1e-7)

    def test_share_by_hand(self):
        # background: 4 pixels, of them 3 keep a label; the new class and the void do not count
        annotated = torch.tensor([[[0, 1, 2, 0, OLD, 255]]])
        labels = torch.tensor([[[0, 1, 255, 2, OLD, 255]]])
        assert accepted_share(labels, annotated, OLD).item() == pytest.approx(0.75, rel=1e-6)

    def test_everything_accepted_is_cross_entropy(self):
        logits, annotated, labels = labelled(31)
        labels = torch.where(labels == 255, annotated, labels)
        annotated[:, 0, 0] = labels[:, 0, 0] = 0
        got = adaptive_cross_entropy(logits, labels, annotated, OLD)
        assert got.item() == pytest.approx(cross_entropy(logits, labels).item(), rel=1e-5)

    def test_part_reads_both_kinds_of_labels(self):
        logits, annotated, labels = labelled(32)
        outputs = Outputs(logits, logits, Features((), logits, logits))
        batch = LossInputs(outputs, None, labels, annotated, OLD)
        expected = adaptive_cross_entropy(logits, labels, annotated, OLD, 0.9)
        assert torch.equal(AdaptiveCrossEntropy(min_factor=0.9)(batch), expected)
        assert not torch.equal(AdaptiveCrossEntropy()(batch), expected)

    @pytest.mark.parametrize(
        ("annotation", "label"),
        [
            pytest.param(255, 255, id="all ignored"),
            pytest.param(OLD, OLD, id="no background"),
            pytest.param(0, 255, id="all refused"),
            pytest.param(0, 0, id="all background"),
        ],
    )
    def test_images_count_as_far_as_their_background_is_believed(self, annotation, label):
        logits = torch.randn(1, ALL, 3, 4)
        annotated, labels = (torch.full((1, 3, 4), v) for v in (annotation, label))
        value = adaptive_cross_entropy(logits, labels, annotated, OLD)
        assert (value == 0) == (label != 0)

    @pytest.mark.parametrize("value", [-0.1, 1.1, math.nan])
    def test_refused_floor(self, value):
        recipe = {"part": "adaptive_ce", "min_factor": value}
        with pytest.raises(InputError, match=rf"`x`: `min_factor`.*got {value}"):
            build_part("cssegcore.method.losses", Loss, recipe, "x")
