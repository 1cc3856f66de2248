"""The training of a new head alone: what moves, how, and what a kill leaves."""

import copy
import dataclasses

import numpy as np
import pytest
import torch

from cssegcore.core.normalization import IMAGENET
from cssegcore.data.batches import training_batches
from cssegcore.runtime.resume import ResumeFile
from tests.helpers.reference_training import PlainSgd, poly
from tests.helpers.tiny_training import CPU, Follower, plan, run, state

EPOCHS, LR = 2, 0.05


def hooks(progress):
    """Watches the passes of pre-tuning and of the training alike."""
    return dataclasses.replace(Follower().hooks(), progress=progress, pass_progress=progress)


def section(**changed):
    how = plan("nest_mib", **changed)
    how.method["classifier_init"] |= {"epochs": EPOCHS, "lr": LR}
    return how


@pytest.fixture
def trainer(lists, base):
    """A step that ends when its new head has been trained."""
    return lists.prepare(section(epochs=0), "step1", base)


def test_only_new_rows_the_backgrounds_and_running_statistics_move(trainer, tmp_path):
    before = {k: v.clone() for k, v in trainer.segmenter.state_dict().items()}
    run(trainer, tmp_path / "r")
    after = trainer.segmenter.state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    first = "heads.0.classifier.weight"
    statistics = {name for name in before if "running" in name or "num_batches" in name}
    assert moved == {first, "heads.1.classifier.weight", "heads.1.classifier.bias"} | statistics
    assert torch.equal(before[first][1:], after[first][1:])
    assert all(weight.requires_grad for weight in trainer.segmenter.parameters())


def views(trainer, *stream, rest=False):
    data = trainer.data
    rng = np.random.default_rng([data.seed, data.index, *stream])
    return training_batches(
        data.images, trainer.augmentation, 2, rng, CPU, IMAGENET, join_rest=rest
    )


def test_it_trains_as_the_formulas_say(trainer, tmp_path):
    """Importance, mixture, unbiased cross-entropy and SGD spelled out, next to the trainer's."""
    network = copy.deepcopy(trainer.segmenter)
    old = network.groups[0].classifier
    rows, n = old.weight.detach()[:, :, 0, 0].clone(), old.out_channels
    sums, count = torch.zeros_like(rows), 0
    shown = list(views(trainer, 0, 1, rest=True))
    assert sum(len(batch.images) for batch in shown) == len(trainer.data.images)
    for batch in shown:
        with torch.no_grad():
            seen = network.eval()(batch.images)
        top, logits = (
            torch.nn.functional.interpolate(maps, (128, 128), mode="bilinear")
            for maps in (seen.features.decoder_out, seen.logits[:, :n])
        )
        labels = torch.nn.functional.interpolate(batch.annotated[:, None].float(), (128, 128))
        there = labels[:, 0] == n
        shares, top = (maps.movedim(1, -1)[there] for maps in (logits.softmax(1), top))
        speaks = (top[:, None] * rows > 0).float()
        sums, count = sums + (shares[..., None] * speaks).sum(0), count + len(top)
    assert count

    class Tuned(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.m = torch.nn.Parameter(sums / count)
            self.u = torch.nn.Parameter((sums / count).sum(1).softmax(0))
            self.b = torch.nn.Parameter(old.bias.detach()[:1].clone())
            self.m0, self.u0 = (torch.nn.Parameter(torch.ones(k)) for k in (len(rows[0]), 1))

    tuned = Tuned()
    sgd, per_epoch = PlainSgd(tuned), len(trainer.data.images) // 2
    for epoch in range(EPOCHS):
        for at, batch in enumerate(views(trainer, epoch, 2), epoch * per_epoch):
            top = network.train()(batch.images).features.decoder_out.detach()
            new = (tuned.u[:, None] * tuned.m * rows).sum(0, keepdim=True)
            weight = torch.cat([tuned.u0 * (tuned.m0 * rows[:1]), rows[1:], new])
            bias = torch.cat([old.bias.detach(), tuned.b])
            small = torch.nn.functional.conv2d(top, weight[:, :, None, None], bias)
            scores = torch.nn.functional.interpolate(small, (16, 16), mode="bilinear").softmax(1)
            nothing, something = scores[:, :n].sum(1).log(), scores[:, n].log()
            loss = -torch.where(batch.annotated == n, something, nothing)
            loss = torch.where(batch.annotated == 255, 0, loss).mean()
            gradients = torch.autograd.grad(loss, list(tuned.parameters()))
            sgd.step(gradients, poly(at, EPOCHS * per_epoch, LR))
    run(trainer, tmp_path / "r")

    got = trainer.segmenter.groups[1].classifier.weight[0, :, 0, 0]
    new = (tuned.u[:, None] * tuned.m * rows).sum(0)
    assert torch.allclose(got / got.norm(), new / new.norm(), atol=1e-4)
    background = tuned.m0 * rows[0] * tuned.u0
    got = trainer.segmenter.groups[0].classifier.weight[0, :, 0, 0]
    assert torch.allclose(got, background * rows[0].norm() / background.norm(), atol=1e-4)
    for name, buffer in network.named_buffers():
        assert torch.allclose(trainer.segmenter.get_buffer(name), buffer, atol=1e-4), name
    assert not torch.allclose(new / new.norm(), rows.mean(0) / rows.mean(0).norm(), atol=1e-2)


def dropping(module, _, features):
    dropped = torch.nn.functional.dropout(features.decoder_out, training=module.training)
    return dataclasses.replace(features, decoder_out=dropped)


def test_what_a_network_draws_by_itself_follows_from_the_seed(lists, base, tmp_path):
    states = []
    for number, drops in enumerate((True, True, False)):
        trainer = lists.prepare(section(epochs=0), "step1", base)
        if drops:
            trainer.segmenter.extractor.register_forward_hook(dropping)
        torch.rand(number)  # what ran before does not matter
        run(trainer, tmp_path / str(number))
        states.append(state(trainer.segmenter))
    assert states[0] == states[1]
    assert states[0] != states[2]


class KilledError(Exception):
    """Ends a training."""


def dying_at(call):
    """A progress that dies at the start of the nth pass over images, from 1; counts all passes."""
    passes = []

    def progress(batches, count):
        passes.append(count)
        if len(passes) == call:
            raise KilledError
        return batches

    return passes, progress


@pytest.mark.slow
@pytest.mark.parametrize(("call", "left"), [(2, 1 + EPOCHS + 2), (1 + EPOCHS + 2, 1)])
def test_a_kill_changes_no_byte(lists, base, tmp_path, call, left):
    """In the first epoch of the head's training, which is repeated; and in the step's second."""
    whole_run, cut, resumed = (
        lists.prepare(section(epochs=2, lr=0.01), "step1", base) for _ in range(3)
    )
    rows = run(whole_run, tmp_path / "whole").rows
    resume = ResumeFile(tmp_path / "cut")
    _, dies = dying_at(call)
    with pytest.raises(KilledError):
        cut.train(resume, hooks(dies))
    passes, counts = dying_at(0)
    again = resumed.train(resume, hooks(counts))
    assert len(passes) == left
    assert again.rows == rows
    assert state(resumed.segmenter) == state(whole_run.segmenter)
    assert resume.beforehand.path.exists()


def test_a_loss_that_is_not_finite_names_the_rate_to_lower(trainer, tmp_path):
    for weight in trainer.segmenter.groups[0].parameters():
        weight.data.fill_(float("nan"))
    message = r"step1, epoch 1: .*Lower `method\.classifier_init\.lr`"
    with pytest.raises(FloatingPointError, match=message):
        run(trainer, tmp_path / "r")


def test_other_methods_train_no_head_beforehand(lists, base, tmp_path):
    passes, counts = dying_at(0)
    resume = ResumeFile(tmp_path / "r")
    trainer = lists.prepare(plan("mib", epochs=1), "step1", base)
    trainer.train(resume, hooks(counts))
    assert len(passes) == 1
    assert not resume.beforehand.path.exists()
