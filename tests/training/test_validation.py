import dataclasses
import gc
import math
import weakref

import numpy as np
import pytest
import torch
from torch import nn

from cssegcore.core.errors import InputError
from cssegcore.data.image_store import ImageStore
from cssegcore.evaluation.evaluate import count_confusion
from cssegcore.models import checkpoint
from cssegcore.runtime.resume import ResumeFile
from cssegcore.training import validation as validations
from cssegcore.training.hooks import Hooks
from cssegcore.training.validation import Validation, best_epoch
from tests.helpers.tiny_training import CPU, Follower, plan, run, state, whole


@pytest.fixture
def watched(lists):
    """Watches every epoch of the first two steps."""
    both = [lists.of(step, "val") for step in ("step0", "step1")]
    return Validation(lists.dataset, both, times=99, batch_size=1)


@dataclasses.dataclass(frozen=True)
class Scripted(Validation):
    """Measures what it is told to, and remembers the weights."""

    script: tuple[float, ...] = ()
    seen: list = dataclasses.field(default_factory=list)

    @property
    def is_on(self):
        return True

    def measure(self, segmenter, device, progress):
        self.seen.append(state(segmenter))
        return {"val_miou": self.script[len(self.seen) - 1]}


class TestNothingDependsOnIt:
    @pytest.mark.parametrize(
        ("method", "step"),
        [("mib", "step0"), *((method, "step1") for method in ("mib", "ssul", "star", "mbs"))],
    )
    def test_weights_are_the_same_bytes(self, lists, tmp_path, watched, method, step):
        """With frozen and fused normalisations, statistics and tokens, too."""
        how, previous, told = plan(method, epochs=3), None, []
        if step == "step1":
            before = lists.sources(how, "step0", None, tmp_path / "files")
            base = lists.prepare(plan(method, epochs=1), "step0", None, before)
            trained = run(base, tmp_path / "base.resume")
            previous = tmp_path / "base.safetensors"
            checkpoint.save(previous, base.segmenter, base.model, trained.statistics)
        sources = lists.sources(how, step, previous, tmp_path / "files")
        lists_of = watched.lists[:1] if step == "step0" else watched.lists
        for name, what in (
            ("unseen", None),
            ("seen", dataclasses.replace(watched, lists=lists_of)),
        ):
            trainer = lists.prepare(how, step, previous, sources)
            hooks = Follower().hooks()
            trained = trainer.train(ResumeFile(tmp_path / f"{name}.pt"), hooks, what)
            losses = [
                {k: v for k, v in row.items() if not k.startswith("val_")} for row in trained.rows
            ]
            parts = trained.statistics.items()
            gathered = {n: {k: v.numpy().tobytes() for k, v in s.items()} for n, s in parts}
            told.append((state(trainer.segmenter), losses, gathered))
        assert told[0] == told[1]
        assert all(0 <= row["val_miou"] <= 100 for row in trained.rows)

    def test_modules_are_in_the_mode_that_they_were_in(self, lists, base, watched):
        segmenter = lists.prepare(plan("mib"), "step1", base).segmenter
        segmenter.train()
        norms = [m for m in segmenter.modules() if isinstance(m, nn.BatchNorm2d)]
        segmenter.keep_eval(norms[:1])
        segmenter.fuse_batchnorm()
        copies = list(segmenter._running.modules())
        before = [module.training for module in (*segmenter.modules(), *copies)]
        seen = []
        copies[-1].register_forward_hook(lambda module, *_: seen.append(module.training))
        watched.measure(segmenter, CPU, whole)
        assert [module.training for module in (*segmenter.modules(), *copies)] == before
        assert {*before} == {True, False}
        assert set(seen) <= {False}

    def test_a_killed_training_measures_the_same(self, lists, tmp_path, watched):
        only = dataclasses.replace(watched, lists=watched.lists[:1])
        trainer = lists.prepare(plan(epochs=3), "step0")
        rows = trainer.train(ResumeFile(tmp_path / "a.pt"), Follower().hooks(), only).rows

        def kill(row):
            if row["epoch"] == 2:
                raise KeyboardInterrupt

        again = lists.prepare(plan(epochs=3), "step0")
        with pytest.raises(KeyboardInterrupt):
            again.train(ResumeFile(tmp_path / "b.pt"), Hooks(kill, whole), only)
        again = lists.prepare(plan(epochs=3), "step0")
        assert again.train(ResumeFile(tmp_path / "b.pt"), Follower().hooks(), only).rows == rows
        assert state(again.segmenter) == state(trainer.segmenter)

    def test_photographs_are_not_kept(self, lists, base, watched, monkeypatch):
        made, lengths = [], []

        def store(dataset, image_list):
            there = ImageStore(dataset, image_list)
            made.append(weakref.ref(there))
            lengths.append(len(there))
            return there

        monkeypatch.setattr(validations, "ImageStore", store)
        segmenter = lists.prepare(plan("mib"), "step1", base).segmenter
        watched.measure(segmenter, CPU, whole)
        gc.collect()
        assert sum(lengths) == sum(len(one.images) for one in watched.lists)
        assert max(lengths) <= 4
        assert not [reference for reference in made if reference() is not None]


class TestMeasure:
    def test_each_class_is_measured_where_it_is_annotated(self, lists, base, watched):
        segmenter = lists.prepare(plan("mib"), "step1", base).segmenter
        with torch.no_grad():
            torch.manual_seed(0)
            for head in segmenter.groups:
                nn.init.normal_(head.weight)
        told = watched.measure(segmenter, CPU, whole)
        iou = {}
        for image_list, own in zip(watched.lists, ([1, 2], [3]), strict=True):
            images = ImageStore(lists.dataset, image_list)
            matrix, _ = count_confusion(segmenter, images, 4, 2, CPU, whole, set())
            for c in own:
                union = matrix[c].sum() + matrix[:, c].sum() - matrix[c, c]
                iou[c] = 100 * matrix[c, c] / union
        assert sum(iou.values()) > 0
        assert told == pytest.approx(
            {
                "val_miou": np.mean([iou[1], iou[2], iou[3]]),
                "val_old": np.mean([iou[1], iou[2]]),
                "val_new": iou[3],
            },
            abs=1e-3,
        )

    def test_a_base_step_has_no_old_classes(self, lists, watched):
        segmenter = lists.prepare(plan("mib"), "step0").segmenter
        only = dataclasses.replace(watched, lists=watched.lists[:1])
        assert set(only.measure(segmenter, CPU, whole)) == {"val_miou", "val_new"}

    @pytest.mark.parametrize(
        ("times", "epochs", "due"),
        [
            (0, 10, []),
            (1, 10, [10]),
            (5, 10, [2, 4, 6, 8, 10]),
            (5, 18, [4, 7, 11, 14, 18]),
            (5, 3, [1, 2, 3]),
        ],
    )
    def test_epochs_are_evenly_spread_and_the_last_is_one(self, watched, times, epochs, due):
        chosen = dataclasses.replace(watched, times=times)
        assert [e for e in range(1, epochs + 1) if chosen.is_due(e, epochs)] == due

    def test_without_images_nothing_is_measured(self, watched):
        empty = [dataclasses.replace(one, images=[]) for one in watched.lists]
        assert not dataclasses.replace(watched, lists=empty).is_due(1, 1)


class TestBest:
    def train(self, lists, folder, script, previous=None, method="mib", hooks=None, seen=None):
        step = "step1" if previous else "step0"
        trainer = lists.prepare(plan(method, epochs=len(script)), step, previous)
        what = Scripted(lists.dataset, [], 99, True, script=script, seen=seen or [])
        trained = trainer.train(ResumeFile(folder / "r.pt"), hooks or Follower().hooks(), what)
        return trainer, trained, what

    @pytest.mark.parametrize(
        ("script", "best"), [((1, 5, 5, 2), 2), ((9, 1, 1, 1), 1), ((1, 2), 2)]
    )
    def test_the_result_is_that_of_the_best_epoch(self, lists, tmp_path, script, best):
        script = tuple(map(float, script))
        trainer, trained, what = self.train(lists, tmp_path, script)
        assert best_epoch(trained.rows) == best
        assert state(trainer.segmenter) == what.seen[best - 1]
        assert len(trained.rows) == len(script)
        assert not math.isclose(trained.seconds, 0)

    def test_statistics_are_of_that_epoch_too(self, lists, tmp_path):
        _, short, _ = self.train(lists, tmp_path / "long", (5.0, 1.0), method="sdr")
        trainer = lists.prepare(plan("sdr", epochs=2), "step0")
        seen = []

        def stop(row):
            seen.append(row)
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            trainer.train(ResumeFile(tmp_path / "r.pt"), Hooks(stop, whole))
        saved = ResumeFile(tmp_path / "r.pt").load(CPU)["statistics"]
        running = lists.prepare(plan("sdr", epochs=2), "step0").begin()
        for name, accumulator in running.objective.accumulators.items():
            accumulator.state = saved[name]
        wanted = running.statistics(final=False)
        assert wanted
        for name, tensors in wanted.items():
            for key, tensor in tensors.items():
                assert torch.equal(short.statistics[name][key], tensor)

    def test_killed_before_it_was_kept(self, lists, tmp_path):
        """Between the two files: the state of the last epoch is there, the best one's is not."""
        script = (1.0, 7.0, 3.0)
        alone, _, _ = self.train(lists, tmp_path / "alone", script)

        def kill(row):
            if row["epoch"] == 2:
                ResumeFile(tmp_path / "r.pt").best.path.unlink()
                raise KeyboardInterrupt

        seen = []
        with pytest.raises(KeyboardInterrupt):
            self.train(lists, tmp_path, script, hooks=Hooks(kill, whole), seen=seen)
        trainer, _, _ = self.train(lists, tmp_path, script, seen=[None, None])
        assert state(trainer.segmenter) == state(alone.segmenter)

    def test_a_state_that_was_lost_is_told(self, lists, tmp_path):
        self.train(lists, tmp_path, (7.0, 3.0))
        ResumeFile(tmp_path / "r.pt").best.path.unlink()
        with pytest.raises(InputError, match="the state of the best epoch, 1, is not in"):
            self.train(lists, tmp_path, (7.0, 3.0))

    def test_a_training_without_a_best_epoch_is_not_its_last_one(self, lists, tmp_path):
        trainer = lists.prepare(plan("mib", epochs=1), "step0")
        empty = dataclasses.replace(lists.of("step0", "val"), images=[])
        nothing = Validation(lists.dataset, [empty], times=1, keeps_best=True)
        with pytest.raises(InputError, match="no epoch of this training has a val_miou"):
            trainer.train(ResumeFile(tmp_path / "r.pt"), Follower().hooks(), nothing)
