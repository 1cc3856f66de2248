import copy
import dataclasses
import math
import shutil

import numpy as np
import pytest
import torch

from cssegcore.core.config import parse
from cssegcore.core.errors import InputError
from cssegcore.core.files import write_json
from cssegcore.core.normalization import IMAGENET
from cssegcore.core.palette import save_labels
from cssegcore.data.augmentation import Augmentation
from cssegcore.data.batches import iterations, training_batches
from cssegcore.data.image_store import ImageStore
from cssegcore.inversion import store
from cssegcore.method.losses import Loss, Penalty
from cssegcore.method.losses.ce import CrossEntropy, cross_entropy
from cssegcore.method.losses.unbiased_ce import unbiased_cross_entropy
from cssegcore.method.statistics import Accumulator, Statistic
from cssegcore.models import checkpoint
from cssegcore.models._base import FeatureExtractor
from cssegcore.models.heads.linear import Linear
from cssegcore.models.segmenter import Segmenter
from cssegcore.runtime.device import choose_device
from cssegcore.runtime.resume import ResumeFile
from cssegcore.training.optimizer import Optimizer
from cssegcore.training.setup import Sources
from tests.helpers.tiny_training import (
    AUGMENTATIONS,
    CPU,
    MODEL,
    OPTIMIZER,
    Follower,
    Lists,
    plan,
    run,
    state,
)


@pytest.fixture(scope="module")
def lists(tmp_path_factory):
    return Lists.write(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def base(lists, tmp_path_factory):
    """The model of a base step."""
    folder = tmp_path_factory.mktemp("base")
    return train_base(lists, folder / "model.safetensors")


def train_base(lists, path, **changed):
    job = lists.prepare(plan(**changed), "step0")
    trained = run(job, path.with_suffix(".resume"))
    checkpoint.save(path, job.segmenter, job.model, trained.statistics)
    return path


def batches_of(images, rng, replayed=None):
    return training_batches(images, Augmentation.of(AUGMENTATIONS), 2, rng, CPU, IMAGENET, replayed)


class TestOptimization:
    @pytest.mark.parametrize("clip", [0, 0.5])
    def test_weights_move_as_the_formulas_say(self, lists, tmp_path, clip):
        """SGD, Nesterov, decay and clipping spelled out, next to the engine's."""
        how = plan(epochs=3, optimizer={"clip": clip, "weight_decay": 0.01})
        job = lists.prepare(how, "step0")
        network = copy.deepcopy(job.segmenter).train()
        velocity = [torch.zeros_like(p) for p in network.parameters()]
        images, n, norms, losses = job.task.images, len(job.task.images) // 2, [], []
        for i in range(3 * n):
            if i % n == 0:
                rng = np.random.default_rng([how.seed, 0, i // n])
                batches = batches_of(images, rng)
            batch = next(batches)
            loss = cross_entropy(network(batch.images).logits, batch.labels)
            losses.append(loss.item())
            grads = torch.autograd.grad(loss, list(network.parameters()))
            norms.append(math.sqrt(sum(g.double().square().sum().item() for g in grads)))
            shrink = min(1, clip / norms[-1]) if clip else 1
            lr = 0.1 * (1 - i / (3 * n)) ** 0.9
            with torch.no_grad():
                for p, v, g in zip(network.parameters(), velocity, grads, strict=True):
                    g = shrink * g + 0.01 * p
                    v.mul_(0.9).add_(g)
                    p -= lr * (g + 0.9 * v)
        rows = run(job, tmp_path / "r").rows
        assert max(norms) > 0.5  # so that something is clipped
        for got, want in zip(job.segmenter.parameters(), network.parameters(), strict=True):
            assert torch.allclose(got, want, rtol=1e-3, atol=1e-5)
        assert [row["lr"] for row in rows] == pytest.approx(
            [0.1 * (1 - (e * n + n - 1) / (3 * n)) ** 0.9 for e in range(3)], rel=1e-12
        )
        means = [sum(losses[e * n : (e + 1) * n]) / n for e in range(3)]
        assert [row["loss"] for row in rows] == pytest.approx(means, rel=1e-4)

    def test_a_row_names_its_terms_and_their_sum(self, lists, base, tmp_path):
        job = lists.prepare(plan("mib"), "step1", base)
        for row in run(job, tmp_path / "r").rows:
            assert list(row) == ["epoch", "lr", "loss", "unbiased_ce", "unbiased_kd"]
            assert row["loss"] == pytest.approx(row["unbiased_ce"] + row["unbiased_kd"])

    def test_a_weight_scales_its_term(self, lists, base, tmp_path):
        def first_row(weight):
            method = copy.deepcopy(plan("mib").method)
            method["losses"]["unbiased_kd"]["weight"] = weight
            how = dataclasses.replace(plan(lr=1e-9, epochs=1), method=method)
            return run(lists.prepare(how, "step1", base), tmp_path / f"{weight}").rows[0]

        one, three = first_row(1.0), first_row(3.0)
        assert three["unbiased_kd"] == pytest.approx(3 * one["unbiased_kd"], rel=1e-5)
        assert three["unbiased_ce"] == pytest.approx(one["unbiased_ce"], rel=1e-5)

    @pytest.mark.parametrize(
        ("wrong", "message"),
        [
            ({"batch_size": 0}, "`batch_size` must be >= 1, got 0"),
            ({"momentum": 0}, "`momentum` must lie in"),
            ({"momentum": 1}, "`momentum` must lie in"),
            ({"clip": -1}, "`clip` must be >= 0"),
            ({"warmup": 1.5}, r"`warmup` is a share of the iterations in \[0, 1\], got 1\.5"),
            ({"floor": -1e-9}, "`floor` must be >= 0"),
            ({"backbone_lr": math.inf}, "`backbone_lr` must be >= 0, got inf"),
            ({"weight_decay": math.nan}, "`weight_decay` must be >= 0"),
            ({"momentun": 0.9}, "`optimizer.momentun` is not a key.*`momentum`"),
        ],
    )
    def test_refusals(self, wrong, message):
        with pytest.raises(InputError, match=message):
            parse(Optimizer, OPTIMIZER | wrong, "optimizer")


class Pull(Penalty):
    """Pulls weights to where they were, hard."""

    def __call__(self, weights):
        return sum((weights.now[n] - old).square().sum() for n, old in weights.old.items())


class Watched(Statistic):
    """Keeps everything it is shown."""

    def begin(self, scene):
        return Watching(scene)


class Watching(Accumulator):
    def __init__(self, scene):
        self.scene, self.before = scene, scene.before or {}
        self.labels, self.gradients, self.batches = [], [], torch.zeros(1)

    def update_batch(self, outputs, labels):
        assert outputs.logits.shape[1] == self.scene.outputs
        self.labels.append(labels)
        self.batches = self.batches + 1

    def update_gradients(self):
        self.gradients.append({n: w.grad.clone() for n, w in self.scene.weights.items()})

    @property
    def state(self):
        return {"batches": self.batches}

    @state.setter
    def state(self, state):
        self.batches = state["batches"]

    def result(self):
        seen.append(self)
        return self.state


seen: list[Watching] = []


class TestStatisticsAndPenalties:
    WEIGHT = 3.0

    def job(self, lists, base, losses=None, sources=None):
        """Fine-tuning watched by a statistic and pulled by a penalty."""
        job = lists.prepare(plan("lwf", epochs=2), "step1", base, sources)
        method = dataclasses.replace(
            job.method,
            losses=losses or {"ce": CrossEntropy()},
            penalties={"pull": Pull(weight=self.WEIGHT)},
            statistics={"watched": Watched()},
        )
        seen.clear()
        return dataclasses.replace(
            job,
            method=method,
            old=checkpoint.load(base, CPU).segmenter.requires_grad_(False),
            gathered={"watched": {"n": torch.ones(1)}},
        )

    def test_gradients_are_seen_without_those_of_penalties_which_move_weights(
        self, lists, base, tmp_path
    ):
        job = self.job(lists, base)
        network = copy.deepcopy(job.segmenter).train()
        old = dict(job.old.named_parameters())
        velocity = [torch.zeros_like(p) for p in network.parameters()]
        seen_gradients, pulls = [], []
        n = iterations(job.task.images, 2)
        for i in range(2 * n):
            if i % n == 0:
                rng = np.random.default_rng([1, 1, i // n])
                batches = batches_of(job.task.images, rng)
            batch = next(batches)
            loss = cross_entropy(network(batch.images).logits, batch.labels)
            grads = torch.autograd.grad(loss, list(network.parameters()))
            seen_gradients.append(grads)
            pulls.append(0.0)
            with torch.no_grad():
                for (name, p), v, g in zip(
                    network.named_parameters(), velocity, grads, strict=True
                ):
                    away = p - old[name] if name in old else torch.zeros_like(p)
                    pulls[-1] += self.WEIGHT * away.square().sum().item()
                    g = g + self.WEIGHT * 2 * away + 1e-4 * p
                    v.mul_(0.9).add_(g)
                    p -= 0.1 * (1 - i / (2 * n)) ** 0.9 * (g + 0.9 * v)
        rows = run(job, tmp_path / "r").rows
        (watching,) = seen
        for got, wanted in zip(watching.gradients, seen_gradients, strict=True):
            for g, w in zip(got.values(), wanted, strict=True):
                assert torch.allclose(g, w, rtol=1e-3, atol=1e-4)
        for got, wanted in zip(job.segmenter.parameters(), network.parameters(), strict=True):
            assert torch.allclose(got, wanted, rtol=1e-3, atol=1e-4)
        means = [sum(pulls[e * n : (e + 1) * n]) / n for e in range(2)]
        assert [row["pull"] for row in rows] == pytest.approx(means, rel=1e-2)
        assert rows[1]["pull"] > 1e-3
        assert list(rows[0]) == ["epoch", "lr", "loss", "ce", "pull"]
        assert rows[1]["loss"] == pytest.approx(rows[1]["ce"] + rows[1]["pull"])

    def test_a_statistic_is_told_of_its_training(self, lists, base, tmp_path):
        job = self.job(lists, base)
        trained = run(job, tmp_path / "r")
        (watching,) = seen
        scene = watching.scene
        assert (scene.index, scene.outputs, scene.num_old) == (1, 4, 3)
        assert scene.depth == MODEL["widths"][-1]
        assert list(scene.weights) == [n for n, _ in job.segmenter.named_parameters()]
        for name, weight in scene.weights.items():
            assert weight is job.segmenter.get_parameter(name)
        assert scene.before == {"n": torch.ones(1)}
        batches = 2 * iterations(job.task.images, 2)
        assert trained.statistics == {"watched": {"batches": torch.full((1,), float(batches))}}

    def test_losses_see_what_was_gathered_with_this_batch(self, lists, base, tmp_path):
        told = []

        class Reader(Loss):
            statistic = "watched"

            def __call__(self, batch):
                told.append(batch.statistics["watched"]["batches"].item())
                return cross_entropy(batch.logits, batch.labels)

        run(job := self.job(lists, base, {"r": Reader()}), tmp_path / "r")
        assert told == list(range(1, 2 * iterations(job.task.images, 2) + 1))

    def test_what_no_loss_reads_is_not_asked_for(self, lists, base, tmp_path, monkeypatch):
        asked = []
        whole = property(lambda watching: asked.append(watching) or {"batches": watching.batches})
        monkeypatch.setattr(Watching, "state", whole)
        job = self.job(lists, base)
        run(job, tmp_path / "r")
        assert len(asked) == job.task.epochs + 1  # after each epoch, and as the result

    def test_a_penalty_sees_what_it_made_once_of_what_the_step_before_saved(
        self, lists, base, tmp_path
    ):
        asked, told = [], []

        class Reader(Pull):
            statistic = "watched"

            def importance(self, saved):
                asked.append(saved)
                return {"made": saved["n"] + 1}

            def __call__(self, weights):
                told.append(weights)
                return super().__call__(weights)

        class Other(Pull):
            def __call__(self, weights):
                assert weights.importance == {}  # it reads no statistic
                return super().__call__(weights)

        job = self.job(lists, base)
        method = dataclasses.replace(job.method, penalties={"p": Reader(), "o": Other()})
        run(dataclasses.replace(job, method=method), tmp_path / "r")
        assert asked == [{"n": torch.ones(1)}]
        assert all(weights.importance == {"made": torch.full((1,), 2.0)} for weights in told)
        old = checkpoint.load(base, CPU).segmenter
        assert state(old).keys() >= told[0].old.keys()
        for name, weight in old.named_parameters():
            assert torch.equal(told[-1].old[name], weight)
            assert told[-1].now[name] is job.segmenter.get_parameter(name)

    def test_pseudo_labels_train_and_annotations_are_gathered(self, lists, base, tmp_path):
        """A folder that guesses red wherever nothing is annotated."""
        told = []

        class Reader(Loss):
            def __call__(self, batch):
                told.append((batch.labels, batch.annotated))
                return cross_entropy(batch.logits, batch.labels)

        names = lists.of("step1").names
        for name in names:
            table = lists.of("step1").label_table()[lists.dataset.label(name)]
            (tmp_path / "train").mkdir(exist_ok=True)
            save_labels(tmp_path / "train" / f"{name}.png", np.where(table == 0, 1, table))
        write_json(tmp_path / "manifest.json", {"images": {"train": names}})
        job = self.job(lists, base, {"r": Reader()}, Sources(pseudo_labels=tmp_path))
        run(job, tmp_path / "r")
        (watching,) = seen
        for (labels, annotated), gathered in zip(told, watching.labels, strict=True):
            assert torch.equal(gathered, annotated)
            assert torch.equal(labels, torch.where(annotated == 0, 1, annotated))
            assert (annotated == 0).any()


@pytest.fixture(scope="module")
def made(lists, base, tmp_path_factory):
    """A folder of random images whose labels are classes of the base step, or void."""
    folder, rng, images = tmp_path_factory.mktemp("made"), np.random.default_rng(0), []
    for at in range(5):
        labels = rng.choice([0, 1, 2, 255], (24, 24)).astype(np.uint8)
        image = rng.integers(0, 256, (24, 24, 3), np.uint8)
        images.append(store.write(folder, store.Made(f"m{at}", image, labels, labels, labels)))
    store.listed(lists.of("step1"), 3, images).write(folder / store.LIST)
    steps = [{"step": "step0", "images": [name for name, _ in images]}]
    write_json(folder / "manifest.json", {"images": [], "steps": steps})
    store.teacher(folder, "step0").parent.mkdir()
    shutil.copy(base, store.teacher(folder, "step0"))
    return folder


class TestReplayedBatches:
    """Made images beside the step's, in batches of their own."""

    WEIGHT = 3.0

    def job(self, lists, base, made, labels, epochs=2, moves=True):
        how = plan("ft", epochs)
        how.method["replay"] = {
            "part": "deepinversion",
            "labels": labels,
            "weight": self.WEIGHT,
            "share": 0.6,
            "moves_statistics": moves,
        }
        return lists.prepare(how, "step1", base, Sources(synthesis=made))

    @staticmethod
    def term(labels, new, old, batch):
        """The term over a replayed batch, from formulas."""
        if labels == "hard":
            scores, at = new.log_softmax(1), batch.labels != 255
            target = batch.labels.where(at, 0)[:, None]
            return -scores.gather(1, target)[:, 0][at].mean()
        if labels == "logits":
            return (new[:, :3] - old).square().mean()
        merged = torch.cat([(new[:, :1].exp() + new[:, 3:].exp()).log(), new[:, 1:3]], 1)
        return -(old.softmax(1) * merged.log_softmax(1)).mean()

    @pytest.mark.parametrize("labels", ["hard", "soft", "logits"])
    def test_weights_move_as_the_formulas_say(self, lists, base, made, tmp_path, labels):
        job = self.job(lists, base, made, labels)
        network = copy.deepcopy(job.segmenter).train()
        old = checkpoint.load(base, CPU).segmenter
        velocity = [torch.zeros_like(p) for p in network.parameters()]
        n, told = iterations(job.task.images, 2), []
        for i in range(2 * n):
            if i % n == 0:
                rng = np.random.default_rng([1, 1, i // n])
                batches = batches_of(job.task.images, rng, job.task.replayed)
            batch = next(batches)
            assert (len(batch.images), len(batch.replayed.images)) == (2, 3)
            own = cross_entropy(network(batch.images).logits, batch.labels)
            images = batch.replayed.images
            with torch.no_grad():
                known = old(images).logits
            theirs = self.term(labels, network(images).logits, known, batch.replayed)
            told.append([own.item(), self.WEIGHT * theirs.item()])
            loss = own + self.WEIGHT * theirs
            grads = torch.autograd.grad(loss, list(network.parameters()))
            with torch.no_grad():
                for p, v, g in zip(network.parameters(), velocity, grads, strict=True):
                    g = g + 1e-4 * p
                    v.mul_(0.9).add_(g)
                    p -= 0.1 * (1 - i / (2 * n)) ** 0.9 * (g + 0.9 * v)
        rows = run(job, tmp_path / "r").rows
        for got, want in zip(job.segmenter.parameters(), network.parameters(), strict=True):
            assert torch.allclose(got, want, rtol=1e-3, atol=1e-4)
        for epoch, row in enumerate(rows):
            assert list(row) == ["epoch", "lr", "loss", "ce", "replayed"]
            means = np.mean(told[epoch * n : (epoch + 1) * n], 0)
            assert [row["ce"], row["replayed"]] == pytest.approx(means, rel=1e-3)
            assert row["loss"] == pytest.approx(row["ce"] + row["replayed"])
        assert job.old is None

    @pytest.mark.parametrize("moves", [False, True])
    def test_who_moves_the_running_statistics(self, lists, base, made, tmp_path, moves):
        job = self.job(lists, base, made, "hard", 1, moves)
        job = dataclasses.replace(job, task=dataclasses.replace(job.task, lr=1e-9))
        network = copy.deepcopy(job.segmenter).train()  # meets the same weights all along
        rng = np.random.default_rng([1, 1, 0])
        for batch in batches_of(job.task.images, rng, job.task.replayed):
            network(batch.images)
            if moves:
                network(batch.replayed.images)
        run(job, tmp_path / "r")
        norms = [m for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d)]
        got = [m for m in job.segmenter.modules() if isinstance(m, torch.nn.BatchNorm2d)]
        for mine, wanted in zip(got, norms, strict=True):
            assert mine.momentum == wanted.momentum == 0.1
            for name in ("running_mean", "running_var"):
                assert torch.allclose(getattr(mine, name), getattr(wanted, name), atol=1e-5)

    def test_every_image_is_shown_to_its_own_teacher(self, lists, base, made, tmp_path):
        told = []

        class Asking(Loss):
            needs_teachers = True

            def __call__(self, batch):
                told.append(batch.teacher_scores)
                return batch.logits.mean()

        later = lists.prepare(plan("ft"), "step1", base)
        model = tmp_path / "model.safetensors"
        checkpoint.save(model, later.segmenter, later.model, {})
        folder = tmp_path / "made"
        shutil.copytree(made, folder)
        names = [["m0", "m3"], ["m1", "m2", "m4"]]
        steps = [{"step": f"step{i}", "images": mine} for i, mine in enumerate(names)]
        write_json(folder / "manifest.json", {"images": [], "steps": steps})
        shutil.copy(model, store.teacher(folder, "step1"))
        how = plan("ft", 1)
        how.method["replay"] = {"part": "deepinversion", "share": 0.6, "labels": "soft"}
        job = lists.prepare(how, "step2", model, Sources(synthesis=folder))
        job = dataclasses.replace(
            job, method=dataclasses.replace(job.method, replayed={"replayed": Asking()})
        )
        teachers = [checkpoint.load(path, CPU).segmenter for path in (base, model)]
        rng = np.random.default_rng([1, 2, 0])
        batches = list(batches_of(job.task.images, rng, job.task.replayed))
        run(job, tmp_path / "r")
        assert len(told) == len(batches)
        for teacher_scores, batch in zip(told, batches, strict=True):
            images, sources = batch.replayed.images, batch.replayed.sources
            assert teacher_scores.shape[:2] == (3, 4)
            for one, image, source in zip(teacher_scores, images, sources, strict=True):
                with torch.no_grad():
                    said = teachers[source](image[None]).logits[0]
                assert torch.allclose(one[: len(said)], said, atol=1e-5)
                assert (one[len(said) :] == -math.inf).all()
                assert len(said) == (3, 4)[source]
        assert {int(s) for batch in batches for s in batch.replayed.sources} == {0, 1}

    def test_no_statistic_sees_them_and_no_other_loss_does(self, lists, base, made, tmp_path):
        own, theirs = [], []

        class Reader(Loss):
            def __init__(self, told, statistic):
                super().__init__()
                object.__setattr__(self, "statistic", statistic)
                object.__setattr__(self, "told", told)

            def __call__(self, batch):
                self.told.append((batch.labels, batch.annotated, batch.statistics, batch.num_old))
                return cross_entropy(batch.logits, batch.labels)

        job = self.job(lists, base, made, "hard")
        method = dataclasses.replace(
            job.method,
            losses={"own": Reader(own, "watched")},
            replayed={"theirs": Reader(theirs, "")},
            statistics={"watched": Watched()},
        )
        seen.clear()
        run(dataclasses.replace(job, method=method), tmp_path / "r")
        (watching,) = seen
        count = 2 * iterations(job.task.images, 2)
        assert len(own) == len(theirs) == len(watching.labels) == count
        for labels, (mine, *_), (made_ones, annotated, statistics, num_old) in zip(
            watching.labels, own, theirs, strict=True
        ):
            assert torch.equal(labels, mine)
            assert (len(mine), len(made_ones)) == (2, 3)
            assert torch.equal(annotated, made_ones)
            assert (statistics, num_old) == ({}, 3)
            assert not (made_ones == 3).any()

    def test_same_seed_same_bytes_also_after_a_kill(self, lists, base, made, tmp_path):
        first, second, cut = (self.job(lists, base, made, "soft") for _ in range(3))
        rows = run(first, tmp_path / "1").rows
        assert run(second, tmp_path / "2").rows == rows
        assert state(first.segmenter) == state(second.segmenter)

        class KilledError(Exception):
            pass

        def stop(row):
            raise KilledError

        resume, hooks = ResumeFile(tmp_path / "3"), Follower().hooks()
        with pytest.raises(KilledError):
            cut.train(resume, dataclasses.replace(hooks, epoch=stop))
        fixed = self.job(lists, base, made, "soft")
        assert run(fixed, tmp_path / "3").rows == rows
        assert state(fixed.segmenter) == state(first.segmenter)


class Branched(FeatureExtractor):
    """A extractor whose first two stages have auxiliary classifiers."""

    auxiliary_weight = 0.4

    def __init__(self, inner):
        super().__init__()
        self.inner, self.backbone = inner, inner.backbone
        self.channels, self.last_stage_channels = inner.channels, inner.last_stage_channels
        self.auxiliary_channels = tuple(MODEL["widths"][:2])

    def forward(self, images):
        features = self.inner(images)
        return dataclasses.replace(features, auxiliary=features.stages[:2])


class TestAuxiliary:
    def test_auxiliary_classifiers_learn_what_is_annotated(self, lists, base, made, tmp_path):
        how = plan("mib", 1, lr=1e-9)  # so that every iteration meets the same weights
        how.method["losses"]["unbiased_ce"]["weight"] = 2.0
        how.method["replay"] = {"part": "deepinversion", "labels": "hard"}
        job = lists.prepare(how, "step1", base, Sources(synthesis=made))
        torch.manual_seed(0)
        network = Segmenter(Branched(job.segmenter.extractor), Linear(), [3, 1])
        job = dataclasses.replace(job, segmenter=network)
        copied, n = copy.deepcopy(network).train(), iterations(job.task.images, 2)
        rng = np.random.default_rng([1, 1, 0])
        expected = 0.0
        for batch in batches_of(job.task.images, rng, job.task.replayed):
            outputs = copied(batch.images)
            assert len(outputs.auxiliary) == 2
            for logits in outputs.auxiliary:
                expected += 0.4 * 2.0 * unbiased_cross_entropy(logits, batch.labels, 3).item() / n
            copied(batch.replayed.images)
        heads = {k: v for k, v in state(network).items() if k.startswith("auxiliary")}
        (row,) = run(job, tmp_path / "r").rows
        terms = ["unbiased_ce", "unbiased_kd", "auxiliary", "replayed"]
        assert list(row) == ["epoch", "lr", "loss", *terms]
        assert row["auxiliary"] == pytest.approx(expected, rel=1e-4)
        assert row["loss"] == pytest.approx(sum(row[name] for name in terms), rel=1e-5)
        assert len(heads) == 2 * 2 * 2
        moved = dataclasses.replace(job, task=dataclasses.replace(job.task, lr=0.1))
        run(moved, tmp_path / "r2")
        after = state(network)
        assert all(after[name] != before for name, before in heads.items())

    def test_without_them_there_is_no_such_column(self, lists, base, tmp_path):
        (row,) = run(lists.prepare(plan("mib", 1), "step1", base), tmp_path / "r").rows
        assert "auxiliary" not in row


class TestRates:
    def test_backbone_and_named_weights_have_rates_of_their_own(self, lists, tmp_path):
        how = plan(epochs=2, optimizer={"backbone_lr": 0.25, "weight_decay": 0, "floor": 0.02})
        job = lists.prepare(how, "step0")
        named = {"extractor.norm.weight": 0.5, "extractor.backbone.stem.0.0.weight": 2.0, "x": 9.0}
        job = dataclasses.replace(job, rates=named)
        network, n = copy.deepcopy(job.segmenter).train(), iterations(job.task.images, 2)
        velocity = {name: torch.zeros_like(p) for name, p in network.named_parameters()}
        for i in range(2 * n):
            if i % n == 0:
                rng = np.random.default_rng([1, 0, i // n])
                batches = batches_of(job.task.images, rng)
            batch = next(batches)
            network.zero_grad()
            cross_entropy(network(batch.images).logits, batch.labels).backward()
            with torch.no_grad():
                for name, p in network.named_parameters():
                    factor = named.get(name, 1) * (0.25 if "backbone" in name else 1)
                    lr = max(0.02, factor * 0.1 * (1 - i / (2 * n)) ** 0.9)
                    velocity[name].mul_(0.9).add_(p.grad)
                    p -= lr * (p.grad + 0.9 * velocity[name])
        rows = run(job, tmp_path / "r").rows
        for got, want in zip(job.segmenter.parameters(), network.parameters(), strict=True):
            assert torch.allclose(got, want, rtol=1e-3, atol=1e-5)
        last = 0.1 * (1 - (2 * n - 1) / (2 * n)) ** 0.9
        assert rows[-1]["lr"] == pytest.approx(last, rel=1e-12)

    def test_what_is_frozen_stands_still(self, lists, base, tmp_path):
        job = lists.prepare(plan("ft"), "step1", base)
        job.segmenter.extractor.requires_grad_(False)
        job.segmenter.hold(job.segmenter.extractor.modules())
        before = state(job.segmenter)
        run(job, tmp_path / "r")
        after = state(job.segmenter)
        moved = {name for name in before if before[name] != after[name]}
        assert moved == {name for name in before if name.startswith("heads.")}


class TestDeterminism:
    def trained(self, lists, folder, step, previous, **changed):
        job = lists.prepare(plan(**changed), step, previous)
        torch.rand(int(folder.name == "second") * 7 + 1)  # what ran before does not matter
        return run(job, folder / f"{step}.resume").rows, state(job.segmenter)

    @pytest.mark.parametrize("step", ["step0", "step1"])
    def test_same_seed_same_bytes(self, lists, base, tmp_path, step):
        previous = base if step == "step1" else None
        first, second = (
            self.trained(lists, tmp_path / name, step, previous) for name in ("first", "second")
        )
        assert first == second

    def test_another_seed_gives_another_training(self, lists, base, tmp_path):
        for step, previous in (("step0", None), ("step1", base)):
            one, two = (
                self.trained(lists, tmp_path / str(seed), step, previous, seed=seed)
                for seed in (1, 2)
            )
            assert one[0] != two[0]
            assert all(one[1][key] != two[1][key] for key in one[1] if key.endswith("weight"))

    def test_fresh_weights_depend_on_the_seed_and_the_step(self, lists, base):
        def fresh(method, step, previous, seed):
            return state(lists.prepare(plan(method, seed=seed), step, previous).segmenter)

        for head, *where in (("heads.0", "joint", "step0", None), ("heads.1", "ft", "step1", base)):
            one, again, two = (fresh(*where, seed) for seed in (1, 1, 2))
            assert one == again
            assert one[f"{head}.classifier.weight"] != two[f"{head}.classifier.weight"]
        extractor = "extractor.local.weight"
        assert (
            fresh("joint", "step1", base, 1)[extractor]
            != fresh("joint", "step0", None, 1)[extractor]
        )

    def test_preparing_leaves_the_running_generator_alone(self, lists):
        torch.manual_seed(3)
        expected = torch.rand(3)
        torch.manual_seed(3)
        lists.prepare(plan(), "step0")
        assert torch.equal(torch.rand(3), expected)


class TestOldModel:
    @pytest.mark.parametrize("method", ["lwf", "mib"])
    def test_only_the_new_model_moves(self, lists, base, tmp_path, method):
        job = lists.prepare(plan(method), "step1", base)
        before, start = state(job.old), state(job.segmenter)
        run(job, tmp_path / "r")
        assert state(job.old) == before
        stored, seen = checkpoint.load(base, CPU).segmenter.eval(), torch.randn(2, 3, 16, 16)
        assert torch.allclose(job.old(seen).logits, stored(seen).logits, atol=1e-5)
        assert not job.old.training
        assert all(p.grad is None for p in job.old.parameters())
        after = state(job.segmenter)
        assert {key for key in start if start[key] == after[key]} == set()

    def test_penalties_compare_with_the_weights_of_the_file(self, lists, base, tmp_path):
        job = lists.prepare(plan("ewc"), "step1", base)
        stored = checkpoint.load(base, CPU).segmenter
        assert state(job.old) == state(stored)

    def test_a_step_starts_from_the_model_before_and_a_new_head(self, lists, base):
        job = lists.prepare(plan("ft"), "step1", base)
        old = checkpoint.load(base, CPU).segmenter
        before, start = state(old), state(job.segmenter)
        assert {key: start[key] for key in before} == before
        assert set(start) - set(before) == {"heads.1.classifier.weight", "heads.1.classifier.bias"}
        assert job.task.num_old == 3
        assert job.old is None  # no term of fine-tuning asks for it

    def test_mib_starts_its_head_from_the_background(self, lists, base):
        groups = lists.prepare(plan("mib"), "step1", base).segmenter.groups
        first, new = (head.classifier for head in groups)
        old = checkpoint.load(base, CPU).segmenter
        lowered = old.groups[0].classifier.bias[0] - math.log(2)
        assert torch.equal(new.weight[0], first.weight[0])
        assert torch.allclose(torch.stack([first.bias[0], new.bias[0]]), lowered)

    def test_methods_share_the_bytes_of_the_base_model(self, lists, base, tmp_path):
        for method in ("ft", "joint"):
            path = train_base(lists, tmp_path / f"{method}.safetensors", method=method)
            assert path.read_bytes() == base.read_bytes()

    def test_joint_starts_afresh_whatever_came_before(self, lists, base, tmp_path):
        other = train_base(lists, tmp_path / "other.safetensors", seed=9)
        jobs = [lists.prepare(plan("joint"), "step1", previous) for previous in (base, other)]
        assert state(jobs[0].segmenter) == state(jobs[1].segmenter)
        old = checkpoint.load(base, CPU).segmenter
        assert jobs[0].old is None
        assert jobs[0].task.num_old == 1
        assert jobs[0].segmenter.outputs == 4
        old_state, fresh = state(old), state(jobs[0].segmenter)
        weights = [k for k in old_state if k.endswith("weight") and k in fresh]
        assert any(old_state[k] != fresh[k] for k in weights)
        assert len(jobs[0].task.images) > len(lists.of("step1").images)

    def test_a_model_that_does_not_fit_the_step(self, lists, base):
        with pytest.raises(InputError) as refused:
            lists.prepare(plan("mib"), "step2", base)
        has, due = [["background", "red", "green"]], [["background", "red", "green"], ["blue"]]
        assert str(refused.value) == (
            f"the model {base} does not fit step2, which starts from it: it has classes {has}, not"
            f" {due}. Run `dvc repro` so that the steps fit each other."
        )

    @pytest.mark.parametrize(
        ("base_slot", "said"),
        [
            ({"unknown": {"part": "everything"}}, "unknown None, not softmax"),
            ({"head": {"part": "conv"}}, r"head \{'part': 'linear'\}, not \{'part': 'conv'\}"),
        ],
    )
    def test_a_model_of_another_kind(self, lists, base, base_slot, said):
        how = plan("mib")
        method = {**how.method, "base": how.method["base"] | base_slot}
        with pytest.raises(InputError, match=rf"it has {said}\. Run `dvc repro`"):
            lists.prepare(dataclasses.replace(how, method=method), "step1", base)


class TestNotFinite:
    def job(self, lists, spoil, **changed):
        """A base step whose loss is handed to `spoil` together with the iteration."""

        class Spoiled(Loss):
            calls = 0

            def __call__(self, batch):
                Spoiled.calls += 1
                return spoil(cross_entropy(batch.logits, batch.labels), Spoiled.calls - 1)

        job = lists.prepare(plan(epochs=4, **changed), "step0")
        method = dataclasses.replace(job.method, losses={"bad": Spoiled()})
        return dataclasses.replace(job, method=method)

    @pytest.mark.parametrize("value", [math.inf, math.nan])
    def test_the_last_good_epoch_is_kept(self, lists, tmp_path, value):
        resume, follower = ResumeFile(tmp_path / "r"), Follower()
        n = iterations(lists.prepare(plan(), "step0").task.images, 2)
        bad = self.job(lists, lambda loss, i: loss * value if i == 2 * n + 1 else loss)
        with pytest.raises(FloatingPointError, match=r"step0, epoch 3: .*`steps\.step0\.lr`"):
            bad.train(resume, follower.hooks())
        assert [row["epoch"] for row in follower.rows] == [1, 2]
        assert len(resume.load(CPU)["rows"]) == 2

        fixed, whole = (self.job(lists, lambda loss, _: loss) for _ in range(2))
        follower = Follower()
        rows = fixed.train(resume, follower.hooks()).rows
        assert rows == follower.rows == run(whole, tmp_path / "whole").rows
        assert state(fixed.segmenter) == state(whole.segmenter)

    def test_weights_that_are_spoiled_by_the_very_last_update(self, lists, tmp_path):
        n = iterations(lists.prepare(plan(), "step0").task.images, 2)

        def spoil(loss, i):  # a finite value with a gradient that is not
            return loss + (0 * loss).sqrt() if i == 4 * n - 1 else loss

        resume = ResumeFile(tmp_path / "r")
        with pytest.raises(FloatingPointError, match=r"step0, epoch 4"):
            self.job(lists, spoil).train(resume, Follower().hooks())
        assert len(resume.load(CPU)["rows"]) == 3


class TestFollowing:
    def test_progress_sees_every_batch_and_how_many_there_are(self, lists, tmp_path):
        seen = []

        def progress(batches, count):
            batches = list(batches)
            seen.append((len(batches), count))
            return batches

        job = lists.prepare(plan(epochs=2), "step0")
        hooks = dataclasses.replace(Follower().hooks(), progress=progress)
        job.train(ResumeFile(tmp_path / "r"), hooks)
        assert seen == [(n := len(job.task.images) // 2, n)] * 2

    def test_a_batch_larger_than_the_list(self, lists, tmp_path):
        job = lists.prepare(plan(epochs=1, optimizer={"batch_size": 99}), "step0")
        assert math.isfinite(run(job, tmp_path / "r").rows[0]["loss"])

    def test_every_epoch_has_an_order_and_views_of_its_own(self, lists):
        images = ImageStore(lists.dataset, lists.of("step0"))

        def epoch(number):
            rng = np.random.default_rng([1, 0, number])
            return torch.cat([b.images for b in batches_of(images, rng)])

        assert torch.equal(epoch(0), epoch(0))
        assert not torch.equal(epoch(0), epoch(1))


class TestDevice:
    def test_environment_chooses(self, monkeypatch):
        monkeypatch.setenv("CSSEGCORE_DEVICE", "cpu")
        assert choose_device() == CPU

    @pytest.mark.parametrize("wanted", ["gpu", "cuda:99"])
    def test_a_device_that_is_not_there(self, monkeypatch, wanted):
        monkeypatch.setenv("CSSEGCORE_DEVICE", wanted)
        with pytest.raises(InputError, match=f"CSSEGCORE_DEVICE is '{wanted}'") as refused:
            choose_device()
        assert "\n" not in str(refused.value)
