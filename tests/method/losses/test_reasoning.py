import dataclasses

import numpy as np
import pytest
import torch

from cssegcore.core.registry import build_part
from cssegcore.method.losses import Loss
from cssegcore.method.losses.reasoning import reasoning_scores
from cssegcore.models.outputs import Classifiers
from tests.helpers.loss_inputs import ALL, OLD, make_inputs, random_batch

DEPTH = 5


def batch(seed=0, leaky=False):
    """Returns a batch whose features are signed if `leaky`; one weight is exactly 0."""
    rng = np.random.default_rng(seed)
    logits, old_logits, labels = random_batch(seed)
    made = make_inputs(logits, labels, old_logits)
    tops = [rng.standard_normal((2, DEPTH, 2, 3)) for _ in range(2)]
    new, old = (torch.tensor(top if leaky else np.abs(top)) for top in tops)
    layers = []
    for outputs in (ALL, OLD):
        weight = rng.standard_normal((outputs, DEPTH))
        weight[1, 2] = 0
        layers.append(Classifiers(torch.tensor(weight), torch.tensor(rng.standard_normal(outputs))))
    new.requires_grad_()
    layers[0].weight.requires_grad_()
    return dataclasses.replace(
        made,
        new=with_top(made.new, new),
        old=with_top(made.old, old),
        classifiers=layers[0],
        old_classifiers=layers[1],
    )


def with_top(outputs, top):
    return dataclasses.replace(
        outputs, features=dataclasses.replace(outputs.features, decoder_out=top)
    )


def term(sign):
    recipe = {"part": "reasoning", "sign": sign}
    return build_part("cssegcore.method.losses", Loss, recipe, "losses.x")


def score(features, weight, sign):
    """Sums over channels, one at a time."""
    total = np.zeros((len(features), *features.shape[2:]))
    for w, channel in zip(weight, features.swapaxes(0, 1), strict=True):
        if (w > 0) == (sign == "positive") and w != 0:
            total += w * channel
    return total


@pytest.mark.parametrize("leaky", [False, True])
@pytest.mark.parametrize("sign", ["positive", "negative"])
def test_old_scores_of_each_sign_are_kept_by_each_model_s_own_weights(sign, leaky):
    seen = batch(leaky=leaky)
    new, old = (o.features.decoder_out.detach().numpy() for o in (seen.new, seen.old))
    expected = 0
    for c in range(1, OLD):
        r = score(new, seen.classifiers.weight[c].detach().numpy(), sign)
        was = score(old, seen.old_classifiers.weight[c].numpy(), sign)
        expected += (np.log1p(np.exp(r)) - r / (1 + np.exp(-was))).mean()
    assert term(sign)(seen).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("sign", ["positive", "negative"])
def test_slopes_reach_features_and_weights_of_that_sign(sign):
    seen = batch()
    weight, top = seen.classifiers.weight, seen.new.features.decoder_out
    to_weight, to_top = torch.autograd.grad(term(sign)(seen), [weight, top])
    kept = (weight > 0) if sign == "positive" else (weight < 0)
    old = torch.zeros_like(kept)
    old[1:OLD] = True
    assert torch.equal(to_weight != 0, kept & old)
    assert (to_top != 0).any()


def test_both_signs_together_are_the_logit_without_its_bias():
    seen = batch(leaky=True)
    weight, top = seen.classifiers.weight, seen.new.features.decoder_out
    both = sum(reasoning_scores(top, weight, sign) for sign in ("positive", "negative"))
    expected = np.einsum("cd,bdhw->bchw", weight.detach().numpy(), top.detach().numpy())
    np.testing.assert_allclose(both.detach().numpy(), expected, rtol=1e-9, atol=1e-12)
