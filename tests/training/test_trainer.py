import copy
import dataclasses
import math

import numpy as np
import pytest
import torch

from cssegcore.core.normalization import IMAGENET
from cssegcore.core.types import UpdateFactors
from cssegcore.data.augmentation import Augmentation
from cssegcore.data.batches import iterations, training_batches
from cssegcore.data.image_store import ImageStore
from cssegcore.data.prefetch import prefetch
from cssegcore.method.losses import Loss
from cssegcore.method.losses.ce import cross_entropy
from cssegcore.models import checkpoint
from cssegcore.runtime.resume import ResumeFile
from tests.helpers.reference_training import PlainSgd, assert_same_weights, batches, poly
from tests.helpers.tiny_training import CPU, OPTIMIZER, Follower, plan, run, state


class TestOptimization:
    @pytest.mark.parametrize("clip", [0, 0.5])
    def test_weights_move_as_the_formulas_say(self, lists, tmp_path, clip):
        """SGD, Nesterov, decay and clipping spelled out, next to the trainer's."""
        how = plan(epochs=3, optimizer={"clip": clip, "weight_decay": 0.01})
        trainer = lists.prepare(how, "step0")
        network = copy.deepcopy(trainer.segmenter).train()
        sgd = PlainSgd(network, decay=0.01)
        n, norms, losses = len(trainer.data.images) // 2, [], []
        for i, batch in enumerate(batches(trainer, 3)):
            loss = cross_entropy(network(batch.images).logits, batch.labels)
            losses.append(loss.item())
            grads = torch.autograd.grad(loss, list(network.parameters()))
            norms.append(math.sqrt(sum(g.double().square().sum().item() for g in grads)))
            shrink = min(1, clip / norms[-1]) if clip else 1
            sgd.step([shrink * g for g in grads], poly(i, 3 * n))
        rows = run(trainer, tmp_path / "r").rows
        assert max(norms) > 0.5  # so that something is clipped
        assert_same_weights(trainer.segmenter, network, atol=1e-5)
        assert [row["lr"] for row in rows] == pytest.approx(
            [poly(e * n + n - 1, 3 * n) for e in range(3)], rel=1e-12
        )
        means = [sum(losses[e * n : (e + 1) * n]) / n for e in range(3)]
        assert [row["loss"] for row in rows] == pytest.approx(means, rel=1e-4)


class TestRates:
    def test_backbone_and_named_weights_have_rates_of_their_own(self, lists, tmp_path):
        how = plan(epochs=2, optimizer={"backbone_lr": 0.25, "weight_decay": 0, "floor": 0.02})
        trainer = lists.prepare(how, "step0")
        named = {"extractor.norm.weight": 0.5, "extractor.backbone.stem.0.0.weight": 2.0, "x": 9.0}
        factors = {name: UpdateFactors(lr=factor) for name, factor in named.items()}
        trainer = dataclasses.replace(trainer, update_factors=factors)
        network, n = copy.deepcopy(trainer.segmenter).train(), iterations(trainer.data.images, 2)
        sgd = PlainSgd(network, decay=0)
        for i, batch in enumerate(batches(trainer, 2)):
            loss = cross_entropy(network(batch.images).logits, batch.labels)
            lr = {
                name: max(0.02, named.get(name, 1) * (0.25 if "backbone" in name else 1) * rate)
                for rate in [poly(i, 2 * n)]
                for name in sgd.weights
            }
            sgd.step(torch.autograd.grad(loss, list(network.parameters())), lr)
        rows = run(trainer, tmp_path / "r").rows
        assert_same_weights(trainer.segmenter, network, atol=1e-5)
        assert rows[-1]["lr"] == pytest.approx(poly(2 * n - 1, 2 * n), rel=1e-12)

    def test_what_is_frozen_stands_still(self, lists, base, tmp_path):
        trainer = lists.prepare(plan("ft"), "step1", base)
        trainer.segmenter.extractor.requires_grad_(False)
        trainer.segmenter.keep_eval(trainer.segmenter.extractor.modules())
        before = state(trainer.segmenter)
        run(trainer, tmp_path / "r")
        after = state(trainer.segmenter)
        moved = {name for name in before if before[name] != after[name]}
        assert moved == {name for name in before if name.startswith("heads.")}


class TestDeterminism:
    def trained(self, lists, folder, step, previous, **changed):
        trainer = lists.prepare(plan(**changed), step, previous)
        torch.rand(int(folder.name == "second") * 7 + 1)  # what ran before does not matter
        return run(trainer, folder / f"{step}.resume").rows, state(trainer.segmenter)

    @pytest.mark.parametrize("step", ["step0", "step1"])
    def test_same_seed_same_bytes(self, lists, base, tmp_path, step):
        previous = base if step == "step1" else None
        first, second = (
            self.trained(lists, tmp_path / name, step, previous) for name in ("first", "second")
        )
        assert first == second

    def test_batches_made_ahead_are_the_same(self, lists, tmp_path, monkeypatch):
        """As for a GPU, whose batches another thread makes."""
        alone = self.trained(lists, tmp_path / "first", "step0", None)
        real, ahead = training_batches, []

        def made_ahead(*arguments):
            ahead.append(arguments)
            return prefetch(real(*arguments))

        monkeypatch.setattr("cssegcore.training.trainer.training_batches", made_ahead)
        assert self.trained(lists, tmp_path / "second", "step0", None) == alone
        assert len(ahead) == 2

    def test_the_same_number_of_threads_gives_the_same_bytes(self, lists, tmp_path):
        torch.set_num_threads(2)
        try:
            first, second = (
                self.trained(lists, tmp_path / name, "step0", None) for name in ("first", "second")
            )
        finally:
            torch.set_num_threads(1)
        assert first == second
        (one, _), (two, _) = first, self.trained(lists, tmp_path / "third", "step0", None)
        assert [row["loss"] for row in one] == pytest.approx([row["loss"] for row in two], rel=1e-4)

    def test_another_seed_gives_another_training(self, lists, base, tmp_path):
        for step, previous in (("step0", None), ("step1", base)):
            one, two = (
                self.trained(lists, tmp_path / str(seed), step, previous, seed=seed)
                for seed in (1, 2)
            )
            assert one[0] != two[0]
            assert all(one[1][key] != two[1][key] for key in one[1] if key.endswith("weight"))


class TestOldModel:
    @pytest.mark.parametrize("method", ["lwf", "mib"])
    def test_only_the_new_model_moves(self, lists, base, tmp_path, method):
        trainer = lists.prepare(plan(method), "step1", base)
        before, start = state(trainer.old), state(trainer.segmenter)
        run(trainer, tmp_path / "r")
        assert state(trainer.old) == before
        stored, seen = checkpoint.load_model(base, CPU).segmenter.eval(), torch.randn(2, 3, 16, 16)
        assert torch.allclose(trainer.old(seen).logits, stored(seen).logits, atol=1e-5)
        assert not trainer.old.training
        assert all(p.grad is None for p in trainer.old.parameters())
        after = state(trainer.segmenter)
        assert {key for key in start if start[key] == after[key]} == set()


class TestNotFinite:
    def trainer(self, lists, spoil, **changed):
        """A base step whose loss is handed to `spoil` together with the iteration."""

        class Spoiled(Loss):
            calls = 0

            def __call__(self, batch):
                Spoiled.calls += 1
                return spoil(cross_entropy(batch.logits, batch.labels), Spoiled.calls - 1)

        trainer = lists.prepare(plan(epochs=4, **changed), "step0")
        method = dataclasses.replace(trainer.method, losses={"bad": Spoiled()})
        return dataclasses.replace(trainer, method=method)

    @pytest.mark.parametrize("value", [math.inf, math.nan])
    def test_the_last_good_epoch_is_kept(self, lists, tmp_path, value):
        resume, follower = ResumeFile(tmp_path / "r"), Follower()
        n = iterations(lists.prepare(plan(), "step0").data.images, 2)
        bad = self.trainer(lists, lambda loss, i: loss * value if i == 2 * n + 1 else loss)
        with pytest.raises(FloatingPointError, match=r"step0, epoch 3: .*`steps\.step0\.lr`"):
            bad.train(resume, follower.hooks())
        assert [row["epoch"] for row in follower.rows] == [1, 2]
        assert len(resume.load(CPU)["rows"]) == 2

        fixed, whole = (self.trainer(lists, lambda loss, _: loss) for _ in range(2))
        follower = Follower()
        rows = fixed.train(resume, follower.hooks()).rows
        assert rows == follower.rows == run(whole, tmp_path / "whole").rows
        assert state(fixed.segmenter) == state(whole.segmenter)

    def test_weights_that_are_spoiled_by_the_very_last_update(self, lists, tmp_path):
        n = iterations(lists.prepare(plan(), "step0").data.images, 2)

        def spoil(loss, i):  # a finite value with a gradient that is not
            return loss + (0 * loss).sqrt() if i == 4 * n - 1 else loss

        resume = ResumeFile(tmp_path / "r")
        with pytest.raises(FloatingPointError, match=r"step0, epoch 4"):
            self.trainer(lists, spoil).train(resume, Follower().hooks())
        assert len(resume.load(CPU)["rows"]) == 3


class TestFollowing:
    def test_progress_sees_every_batch_and_how_many_there_are(self, lists, tmp_path):
        seen = []

        def progress(batches, count):
            batches = list(batches)
            seen.append((len(batches), count))
            return batches

        trainer = lists.prepare(plan(epochs=2), "step0")
        hooks = dataclasses.replace(Follower().hooks(), progress=progress)
        trainer.train(ResumeFile(tmp_path / "r"), hooks)
        assert seen == [(n := len(trainer.data.images) // 2, n)] * 2

    def test_a_batch_larger_than_the_list(self, lists, tmp_path):
        trainer = lists.prepare(plan(epochs=1, optimizer={"batch_size": 99}), "step0")
        assert math.isfinite(run(trainer, tmp_path / "r").rows[0]["loss"])

    def test_every_epoch_has_an_order_and_views_of_its_own(self, lists):
        images = ImageStore(lists.dataset, lists.of("step0"))
        rule = Augmentation.of(plan().augmentation)

        def epoch(number):
            rng = np.random.default_rng([1, 0, number])
            return torch.cat(
                [b.images for b in training_batches(images, rule, 2, rng, CPU, IMAGENET)]
            )

        assert torch.equal(epoch(0), epoch(0))
        assert not torch.equal(epoch(0), epoch(1))


class KilledError(Exception):
    """Ends a training."""


ADAMW = {"part": "adamw", "weight_decay": 0.01, "backbone_lr": 0.5}
"""Changes of a section `optimizer` of SGD."""


class TestKilled:
    """A training with made images, a statistic and a penalty that ends after its first epoch."""

    @pytest.mark.parametrize("optimizer", [{"backbone_lr": 0.5}, ADAMW], ids=["sgd", "adamw"])
    @pytest.mark.parametrize("method", ["ewc", "sdr"])
    def test_it_goes_on_to_the_same_bytes(self, lists, base, tmp_path, optimizer, method):
        section = {k: v for k, v in OPTIMIZER.items() if k != "momentum"} | optimizer
        section |= {} if "part" in optimizer else {"momentum": 0.9}
        how = dataclasses.replace(plan(method, epochs=3, lr=0.01), optimizer=section)

        def trainer():
            made = lists.prepare(how, "step1", base)
            return dataclasses.replace(made, previous_statistics=statistics)

        statistics = saved(lists, method, tmp_path)
        whole, cut, resumed = trainer(), trainer(), trainer()
        rows = run(whole, tmp_path / "whole").rows

        def stop(row):
            raise KilledError

        resume = ResumeFile(tmp_path / "cut")
        with pytest.raises(KilledError):
            cut.train(resume, dataclasses.replace(Follower().hooks(), epoch=stop))
        left = resume.load(CPU)
        assert len(left["rows"]) == 1
        resume.save(left | {"seconds": 1000.0})
        again = run(resumed, resume.path)
        assert again.rows == rows
        assert 1000 < again.seconds < 1500, "those before the kill count"
        assert state(resumed.segmenter) == state(whole.segmenter)


def saved(lists, method, folder):
    """Returns the statistics that a base step saves for a method's first increment."""
    trainer = lists.prepare(plan(method, epochs=1), "step0")
    return run(trainer, folder / "base").statistics
