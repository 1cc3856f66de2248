import math

import numpy as np
import pytest
import torch

from cssegcore.core.errors import InputError
from cssegcore.core.registry import build_part
from cssegcore.method.losses import Loss, LossInputs
from cssegcore.method.losses.label_guided_kd import LabelGuidedDistillation
from cssegcore.models.outputs import Features, Outputs
from tests.helpers.loss_inputs import ALL, OLD

B, SMALL, FULL = 2, (3, 4), (7, 9)
"""Sizes that no whole number divides: labels are then taken at floor(i · H / h)."""


def batch(seed):
    """Returns a batch whose small and full logits have nothing to do with each other."""
    rng = np.random.default_rng(seed)

    def outputs(c, grad):
        full, small = (
            torch.tensor(2 * rng.standard_normal((B, c, *size)), requires_grad=grad)
            for size in (FULL, SMALL)
        )
        none = torch.zeros(B, 1, *SMALL)
        return Outputs(full, small, Features((), none, none))

    annotated = rng.integers(0, ALL, (B, *FULL))
    annotated[rng.random(annotated.shape) < 0.3] = 255
    annotated[0, 0, :3] = 0, 1, ALL - 1
    labels = np.where(annotated < OLD, rng.choice([0, 1, 2, 255], annotated.shape), annotated)
    labels, annotated = torch.tensor(labels), torch.tensor(annotated)
    return LossInputs(outputs(ALL, True), outputs(OLD, False), labels, annotated, OLD)


def softmax(scores):
    powers = [math.exp(score) for score in scores]
    return [power / math.fsum(powers) for power in powers]


def plain(batch, term):
    """The paper's formula, pixel by pixel and class by class."""
    small = term.size == "small"
    new, old = (
        (o.logits_lowres if small else o.logits).detach().numpy() for o in (batch.new, batch.old)
    )
    h, w = new.shape[-2:]
    total, counted = 0.0, 0
    for b in range(B):
        for y in range(h):
            for x in range(w):
                label = int(batch.annotated[b, y * FULL[0] // h, x * FULL[1] // w])
                if label == 255 and term.average == "labelled":
                    continue
                counted += 1
                says, said = softmax(new[b, :, y, x]), softmax(old[b, :, y, x])
                target, factor = [*said, *[0.0] * (ALL - OLD)], term.old
                if OLD <= label < 255:
                    target[label], target[0], factor = target[0], 0.0, term.new
                total -= factor * math.fsum(
                    t * math.log(p) for t, p in zip(target, says, strict=True)
                )
    if term.classes == "mean":
        total /= ALL
    return total / counted


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("size", ["small", "full"])
@pytest.mark.parametrize("average", ["labelled", "all"])
@pytest.mark.parametrize("classes", ["sum", "mean"])
def test_against_plain_loops(seed, size, average, classes):
    term = LabelGuidedDistillation(old=0.7, new=1.9, size=size, average=average, classes=classes)
    given = batch(seed)
    assert term(given).item() == pytest.approx(plain(given, term), rel=1e-9)


@pytest.mark.parametrize(("old", "new"), [(1.0, 0.0), (0.0, 1.0), (5.0, 0.5)])
def test_factors_by_the_label(old, new):
    given = batch(7)
    term = LabelGuidedDistillation(old=old, new=new)
    assert term(given).item() == pytest.approx(plain(given, term), rel=1e-9)


def test_the_small_logits_alone_are_moved_and_no_background_at_new_pixels():
    given = batch(3)
    term = LabelGuidedDistillation(old=0.0, new=1.0)
    loss = term(given)
    loss.backward()
    assert given.new.logits.grad is None
    sampled = given.annotated[:, [0, 2, 4]][:, :, [0, 2, 4, 6]]
    is_new = (sampled >= OLD) & (sampled < ALL)
    gradient = given.new.logits_lowres.grad
    assert (gradient[:, 0][is_new] > 0).all()  # softmax alone: no target pulls it up
    assert (gradient.movedim(1, -1)[~is_new] == 0).all()


def test_pseudo_labels_change_nothing():
    given = batch(4)
    other = LossInputs(given.new, given.old, given.annotated, given.annotated, OLD)
    assert not torch.equal(given.labels, given.annotated)
    assert torch.equal(LabelGuidedDistillation()(given), LabelGuidedDistillation()(other))


@pytest.mark.parametrize("size", ["small", "full"])
def test_a_batch_of_void_gives_0_and_no_gradient(size):
    given = batch(5)
    given.annotated[:] = 255
    loss = LabelGuidedDistillation(size=size)(given)
    loss.backward()
    assert loss.item() == 0
    logits = given.new.logits_lowres if size == "small" else given.new.logits
    assert (logits.grad == 0).all()


def test_half_precision_is_left_behind():
    given = batch(6)
    halves = [
        Outputs(o.logits.bfloat16(), o.logits_lowres.bfloat16(), o.features)
        for o in (given.new, given.old)
    ]
    wide = [Outputs(o.logits.float(), o.logits_lowres.float(), o.features) for o in halves]
    rest = (given.labels, given.annotated, OLD)
    term = LabelGuidedDistillation()
    assert term(LossInputs(*halves, *rest)).dtype == torch.float32
    assert torch.equal(term(LossInputs(*halves, *rest)), term(LossInputs(*wide, *rest)))


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"old": -1}, "`old` must be a finite number >= 0, got -1"),
        ({"new": math.inf}, "`new` must be a finite number >= 0, got inf"),
        ({"old": 0, "new": 0}, "`old` and `new` are both 0, which leaves nothing: drop the term"),
        ({"weight": -1}, "`weight` must be a finite number >= 0"),
        ({"size": "half"}, "`x.size` must be one of small, full; got 'half'"),
        ({"average": "classes"}, "`x.average` must be one of all, labelled; got 'classes'"),
        ({"classes": "max"}, "`x.classes` must be one of sum, mean; got 'max'"),
    ],
)
def test_wrong_numbers_are_refused(numbers, message):
    with pytest.raises(InputError) as refused:
        build_part("cssegcore.method.losses", Loss, {"part": "label_guided_kd", **numbers}, "x")
    assert message in str(refused.value)
