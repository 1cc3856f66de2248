import dataclasses

import numpy as np
import pytest
import torch

from cssegcore.core.errors import InputError
from cssegcore.core.registry import build_part
from cssegcore.method.losses import LossInputs
from cssegcore.method.losses._base import Term
from cssegcore.method.losses.old_features import OldFeatures
from cssegcore.models.outputs import Features, Outputs

OLD, ALL, DEPTH, STRIDE = 3, 4, 5, 4


def make_batch(seed):
    rng = np.random.default_rng(seed)

    def outputs(c):
        logits = torch.tensor(rng.normal(0, 1, (2, c, 2 * STRIDE, 3 * STRIDE)))
        logits[:, 0] = 9  # the background's place, which nobody may read
        top = torch.tensor(rng.normal(0, 1, (2, DEPTH, 2, 3)))
        return Outputs(logits, logits, Features((), top, top))

    labels = torch.tensor(rng.choice([0, 0, 3, 255], (2, 2 * STRIDE, 3 * STRIDE)))
    batch = LossInputs(outputs(ALL), outputs(OLD), torch.zeros_like(labels), labels, OLD)
    batch.new.features.decoder_out.requires_grad_()
    return batch


def plain_loss(batch, threshold):
    """A place's share of the region is the mean of the four pixels in its middle."""
    total, weight = 0.0, 0.0
    new, old = (o.features.decoder_out.detach().numpy() for o in (batch.new, batch.old_outputs))
    for at, i, j in np.ndindex(2, 2, 3):
        pixels = [
            (STRIDE * i + a, STRIDE * j + b)
            for a in (STRIDE // 2 - 1, STRIDE // 2)
            for b in (STRIDE // 2 - 1, STRIDE // 2)
        ]
        share = np.mean(
            [
                bool(
                    batch.annotated[at, y, x] == 0
                    and batch.old_outputs.logits[at, 1:, y, x].max() > threshold
                )
                for y, x in pixels
            ]
        )
        total += share * ((new[at, :, i, j] - old[at, :, i, j]) ** 2).sum()
        weight += share * DEPTH
    return total / weight


@pytest.mark.parametrize("threshold", [0.5, 0.0])
def test_against_plain_loops(threshold):
    batch = make_batch(0)
    got = OldFeatures(raw_threshold=threshold)(batch).item()
    assert got == pytest.approx(plain_loss(batch, threshold), rel=1e-9)


def test_a_batch_without_an_old_class_gives_nothing():
    batch = make_batch(1)
    nothing = dataclasses.replace(batch, annotated=torch.full_like(batch.annotated, 255))
    loss, top = OldFeatures()(nothing), nothing.new.features.decoder_out
    assert loss.item() == 0
    assert (torch.autograd.grad(loss, top)[0] == 0).all()


def test_wrong_numbers_are_refused():
    recipe = {"part": "old_features", "raw_threshold": -0.5}
    with pytest.raises(InputError, match=r"`raw_threshold` must be a finite number >= 0, got -0.5"):
        build_part("cssegcore.method.losses", Term, recipe, "x")
