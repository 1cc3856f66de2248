import dataclasses
import math

import numpy as np
import pytest
import torch

from cssegcore.core.errors import InputError
from cssegcore.core.registry import build_part
from cssegcore.method.losses import LossInputs, replayed_bce
from cssegcore.method.losses._base import Term
from cssegcore.method.losses.mbce import NewClassCrossEntropy
from cssegcore.method.losses.replayed_bce import ReplayedCrossEntropy
from cssegcore.models.outputs import Classifiers, Features, Outputs
from cssegcore.runtime.draws import Draws

OLD, ALL, DEPTH, STRIDE = 3, 5, 6, 4
SEED = (1, 2, 3)


def softplus(z):
    return np.logaddexp(0, z)


def make_batch(seed, counts=(2, 3), extra=1.5, images=2):
    """Draws a batch in float64; `counts` vectors of the two old classes are replayed."""
    rng = np.random.default_rng(seed)

    def drawn(*shape):
        return torch.tensor(rng.normal(0, 1, shape))

    def outputs(c):
        small, full = drawn(images, c, 2, 3), drawn(images, c, 2 * STRIDE, 3 * STRIDE)
        small[:, 0] = full[:, 0] = 0
        top = drawn(images, DEPTH, 2, 3).abs()
        return Outputs(full, small, Features((), top, top))

    labels = rng.choice([0, 0, 0, 3, 4, 255], (images, 2 * STRIDE, 3 * STRIDE))
    weight, bias = drawn(ALL, DEPTH), drawn(ALL)
    gathered = {
        "prototypes": drawn(2, DEPTH),
        "norms": drawn(2, 2).abs() + 1,
        "spread": drawn(2, DEPTH).abs(),
        "replayed": torch.tensor([0, 1]).repeat_interleave(torch.tensor(counts)),
        "extra_background": torch.tensor(extra, dtype=torch.float64),
    }
    new, old = outputs(ALL), outputs(OLD)
    for leaf in (new.logits, new.logits_lowres, new.features.decoder_out, weight, bias):
        leaf.requires_grad_()
    return LossInputs(
        new,
        old,
        torch.zeros(images, 2 * STRIDE, 3 * STRIDE, dtype=torch.int64),  # nobody reads them
        torch.tensor(labels),
        OLD,
        {"class_features": gathered},
        classifiers=Classifiers(weight, bias),
        draws=Draws(SEED),
    )


def plain_own(batch, p):
    total, labels = 0.0, batch.annotated.numpy()
    for c in range(OLD, ALL):
        z = batch.logits[:, c].detach().numpy()
        yes = labels == c
        total += (np.where(yes, p * softplus(-z), softplus(z))).mean()
    return total


def plain_replay(batch, length, held=10):
    """Returns the terms of the replayed vectors, one a vector; of `held` at a time."""
    gathered = batch.statistics["class_features"]
    p, (mu, sigma), s = (gathered[n].numpy() for n in ("prototypes", "norms", "spread"))
    classes = gathered["replayed"].tolist()
    columns = 2 * DEPTH if length == "released" else DEPTH + 1
    normal = np.concatenate(
        [
            batch.draws.numbered(at).normal(len(part), columns, torch.device("cpu")).double()
            for at, part in enumerate(gathered["replayed"].split(held))
        ]
    )
    weight, bias = batch.head_weights.weight.detach().numpy(), batch.head_weights.bias
    terms = []
    for c, drawn in zip(classes, normal, strict=True):
        eta = drawn[DEPTH:] if length == "released" else drawn[DEPTH]
        x = (p[c] + s[c] * drawn[:DEPTH]) * (mu[c] + sigma[c] * eta)
        terms.append(sum(softplus(weight[k] @ x + bias[k].item()) for k in range(OLD, ALL)))
    return terms


def plain_background(batch, threshold=0.5):
    """Returns the terms of the places where nothing is seen."""
    terms = []
    for at, i, j in np.ndindex(len(batch.annotated), 2, 3):
        y, x = (STRIDE // 2 + STRIDE * k for k in (i, j))
        seen = batch.old_outputs.logits[at, 1:, y, x].max() > threshold
        if batch.annotated[at, y, x] == 0 and not seen:
            z = batch.new.logits_lowres[at, OLD:, i, j].detach().numpy()
            terms.append(softplus(z).sum())
    return terms


@pytest.mark.parametrize("length", ["intended", "released"])
@pytest.mark.parametrize("threshold", [0.5, 0.0])
def test_against_plain_loops(length, threshold):
    batch = make_batch(0)
    replay, background = plain_replay(batch, length), plain_background(batch, threshold)
    places, extra = 2 * 2 * 3, 1.5
    r, q = len(replay) / places, extra * len(background) / places
    assert 0 < len(background) < places
    own = plain_own(batch, 4)
    wanted = (own + r * np.mean(replay) + q * np.mean(background)) / (1 + r + q)
    got = ReplayedCrossEntropy(4.0, length, threshold)(batch).item()
    assert got == pytest.approx(wanted, rel=1e-6)


def gradients(batch, term):
    leaves = {
        "logits": batch.logits,
        "lowres": batch.new.logits_lowres,
        "weight": batch.head_weights.weight,
        "bias": batch.head_weights.bias,
    }
    return dict(zip(leaves, torch.autograd.grad(term(batch), [*leaves.values()]), strict=True))


def test_old_outputs_learn_nothing():
    found = gradients(make_batch(1), ReplayedCrossEntropy())
    for name, at in (("logits", 1), ("lowres", 1), ("weight", 0), ("bias", 0)):
        old, new = found[name].split((OLD, ALL - OLD), at)
        assert (old == 0).all(), name
        assert (new != 0).any(), name


def test_without_replay_and_background_it_is_the_step_s_own():
    batch = make_batch(2, counts=(0, 0), extra=0.0)
    own = NewClassCrossEntropy(4.0)(batch)
    assert ReplayedCrossEntropy()(batch).item() == pytest.approx(own.item(), rel=1e-12)
    annotated = torch.full_like(batch.annotated, 255)  # no background either
    nothing = dataclasses.replace(make_batch(2, counts=(0, 0)), annotated=annotated)
    own = NewClassCrossEntropy(4.0)(nothing)
    assert ReplayedCrossEntropy()(nothing).item() == pytest.approx(own.item(), rel=1e-12)


def test_an_intended_vector_has_one_length():
    """Without spread, vectors of a class point to its prototype; as released they do not."""
    for length, parallel in (("intended", True), ("released", False)):
        batch = make_batch(3, counts=(3, 0))
        gathered = batch.statistics["class_features"]
        gathered["spread"].zero_()
        prototype = gathered["prototypes"][0]
        beside = torch.linalg.svd(prototype[None]).Vh[1:]  # at right angles to it
        rows = torch.cat([torch.zeros(OLD, DEPTH), beside[: ALL - OLD]])
        heads = Classifiers(rows.double().requires_grad_(), torch.zeros(ALL).double())
        batch = dataclasses.replace(batch, classifiers=heads)
        replay = ReplayedCrossEntropy(length=length)._replay(batch)[0].item()
        no_opinion = 3 * (ALL - OLD) * math.log(2)
        assert (replay == pytest.approx(no_opinion, rel=1e-6)) == parallel


def test_vectors_depend_on_seed_and_iteration_alone_and_are_shared_by_pieces():
    batch, term = make_batch(4), ReplayedCrossEntropy()
    torch.rand(3)
    assert term(batch).item() == term(make_batch(4)).item()
    other = dataclasses.replace(batch, draws=Draws((*SEED[:2], 4)))
    assert term(other).item() != term(batch).item()
    whole, count = term._replay(batch)
    pieces = [
        term._replay(dataclasses.replace(batch, draws=Draws(SEED, part, 3))) for part in range(3)
    ]
    assert count == sum(c for _, c in pieces) == 5
    assert whole.item() == pytest.approx(sum(value.item() for value, _ in pieces), rel=1e-9)


def test_many_vectors_are_held_a_few_at_a_time(monkeypatch):
    monkeypatch.setattr(replayed_bce, "HELD", 2)
    batch, term = make_batch(5), ReplayedCrossEntropy()
    got, count = term._replay(batch)
    assert count == 5
    assert got.item() == pytest.approx(sum(plain_replay(batch, "intended", 2)), rel=1e-6)
    pieces = [
        term._replay(dataclasses.replace(batch, draws=Draws(SEED, part, 2)))[0].item()
        for part in range(2)
    ]
    assert sum(pieces) == pytest.approx(got.item(), rel=1e-9)
    leaves = [batch.head_weights.weight, batch.head_weights.bias]
    assert torch.autograd.gradcheck(lambda *_: term._replay(batch)[0], leaves, fast_mode=True)


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"positive": 0}, "`positive` must be a finite number > 0, got 0"),
        ({"length": "mean"}, r"`x\.length` must be one of intended, released; got 'mean'"),
        ({"raw_threshold": -1}, "`raw_threshold` must be a finite number >= 0, got -1"),
    ],
)
def test_wrong_numbers_are_refused(numbers, message):
    with pytest.raises(InputError, match=message):
        build_part("cssegcore.method.losses", Term, {"part": "replayed_bce", **numbers}, "x")
