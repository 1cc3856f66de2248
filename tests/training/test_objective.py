import copy
import dataclasses
import math
import shutil

import numpy as np
import pytest
import torch

from cssegcore.core.files import write_json
from cssegcore.core.palette import save_labels
from cssegcore.data.batches import iterations
from cssegcore.inversion import store
from cssegcore.method.losses import Loss, Penalty
from cssegcore.method.losses.ce import CrossEntropy, cross_entropy
from cssegcore.method.losses.unbiased_ce import unbiased_cross_entropy
from cssegcore.method.statistics import Accumulator, Statistic
from cssegcore.models import checkpoint
from cssegcore.models._base import FeatureExtractor
from cssegcore.models.heads.linear import Linear
from cssegcore.models.segmenter import Segmenter
from cssegcore.training.setup import StageInputs
from tests.helpers.noise_synthesis import write_noise
from tests.helpers.reference_training import PlainSgd, assert_same_weights, batches, poly
from tests.helpers.tiny_training import BACKBONE, CPU, plan, run, state


class TestTerms:
    def test_a_row_names_its_terms_and_their_sum(self, lists, base, tmp_path):
        trainer = lists.prepare(plan("mib"), "step1", base)
        for row in run(trainer, tmp_path / "r").rows:
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


class Pull(Penalty):
    """Pulls weights to where they were, hard."""

    def __call__(self, weights):
        return sum((weights.now[n] - old).square().sum() for n, old in weights.old.items())


class Watched(Statistic):
    """Keeps everything it is shown."""

    def start(self, scene):
        return Watching(scene)


class Watching(Accumulator):
    def __init__(self, scene):
        self.scene, self.previous = scene, scene.previous or {}
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

    def trainer(self, lists, base, losses=None, sources=None):
        """Fine-tuning watched by a statistic and pulled by a penalty."""
        trainer = lists.prepare(plan("lwf", epochs=2), "step1", base, sources)
        method = dataclasses.replace(
            trainer.method,
            losses=losses or {"ce": CrossEntropy()},
            penalties={"pull": Pull(weight=self.WEIGHT)},
            statistics={"watched": Watched()},
        )
        seen.clear()
        return dataclasses.replace(
            trainer,
            method=method,
            old=checkpoint.load_model(base, CPU).segmenter.requires_grad_(False),
            previous_statistics={"watched": {"n": torch.ones(1)}},
        )

    def test_gradients_are_seen_without_those_of_penalties_which_move_weights(
        self, lists, base, tmp_path
    ):
        trainer = self.trainer(lists, base)
        network = copy.deepcopy(trainer.segmenter).train()
        old, sgd = dict(trainer.old.named_parameters()), PlainSgd(network)
        seen_gradients, pulls = [], []
        n = iterations(trainer.data.images, 2)
        for i, batch in enumerate(batches(trainer, 2)):
            loss = cross_entropy(network(batch.images).logits, batch.labels)
            grads = torch.autograd.grad(loss, list(network.parameters()))
            seen_gradients.append(grads)
            weights = network.named_parameters()
            away = [
                p.detach() - old[name] if name in old else 0 * p.detach() for name, p in weights
            ]
            pulls.append(self.WEIGHT * sum(a.square().sum().item() for a in away))
            both = [g + self.WEIGHT * 2 * a for g, a in zip(grads, away, strict=True)]
            sgd.step(both, poly(i, 2 * n))
        rows = run(trainer, tmp_path / "r").rows
        (watching,) = seen
        for got, wanted in zip(watching.gradients, seen_gradients, strict=True):
            for g, w in zip(got.values(), wanted, strict=True):
                assert torch.allclose(g, w, rtol=1e-3, atol=1e-4)
        assert_same_weights(trainer.segmenter, network)
        means = [sum(pulls[e * n : (e + 1) * n]) / n for e in range(2)]
        assert [row["pull"] for row in rows] == pytest.approx(means, rel=1e-2)
        assert rows[1]["pull"] > 1e-3
        assert list(rows[0]) == ["epoch", "lr", "loss", "ce", "pull"]
        assert rows[1]["loss"] == pytest.approx(rows[1]["ce"] + rows[1]["pull"])

    def test_a_statistic_is_told_of_its_training(self, lists, base, tmp_path):
        trainer = self.trainer(lists, base)
        trained = run(trainer, tmp_path / "r")
        (watching,) = seen
        scene = watching.scene
        assert (scene.index, scene.outputs, scene.num_old) == (1, 4, 3)
        assert scene.depth == BACKBONE["widths"][-1]
        assert list(scene.weights) == [n for n, _ in trainer.segmenter.named_parameters()]
        for name, weight in scene.weights.items():
            assert weight is trainer.segmenter.get_parameter(name)
        assert scene.previous == {"n": torch.ones(1)}
        batches = 2 * iterations(trainer.data.images, 2)
        assert trained.statistics == {"watched": {"batches": torch.full((1,), float(batches))}}

    def test_losses_see_what_was_gathered_with_this_batch(self, lists, base, tmp_path):
        told = []

        class Reader(Loss):
            statistic = "watched"

            def __call__(self, batch):
                told.append(batch.statistics["watched"]["batches"].item())
                return cross_entropy(batch.logits, batch.labels)

        run(trainer := self.trainer(lists, base, {"r": Reader()}), tmp_path / "r")
        assert told == list(range(1, 2 * iterations(trainer.data.images, 2) + 1))

    def test_what_no_loss_reads_is_not_asked_for(self, lists, base, tmp_path, monkeypatch):
        asked = []
        whole = property(lambda watching: asked.append(watching) or {"batches": watching.batches})
        monkeypatch.setattr(Watching, "state", whole)
        trainer = self.trainer(lists, base)
        run(trainer, tmp_path / "r")
        assert len(asked) == trainer.data.epochs + 1  # after each epoch, and as the result

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

        trainer = self.trainer(lists, base)
        method = dataclasses.replace(trainer.method, penalties={"p": Reader(), "o": Other()})
        run(dataclasses.replace(trainer, method=method), tmp_path / "r")
        assert asked == [{"n": torch.ones(1)}]
        assert all(weights.importance == {"made": torch.full((1,), 2.0)} for weights in told)
        old = checkpoint.load_model(base, CPU).segmenter
        assert state(old).keys() >= told[0].old.keys()
        for name, weight in old.named_parameters():
            assert torch.equal(told[-1].old[name], weight)
            assert told[-1].now[name] is trainer.segmenter.get_parameter(name)

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
        trainer = self.trainer(lists, base, {"r": Reader()}, StageInputs(pseudo_labels=tmp_path))
        run(trainer, tmp_path / "r")
        (watching,) = seen
        for (labels, annotated), gathered in zip(told, watching.labels, strict=True):
            assert torch.equal(gathered, annotated)
            assert torch.equal(labels, torch.where(annotated == 0, 1, annotated))
            assert (annotated == 0).any()


@pytest.fixture(scope="module")
def made(lists, base, tmp_path_factory):
    """A folder of random images whose labels are classes of the base step, or void."""
    return write_noise(lists, base, tmp_path_factory.mktemp("made"), 5)


class TestReplayedBatches:
    """Made images beside the step's, in batches of their own."""

    WEIGHT = 3.0

    def trainer(self, lists, base, made, labels, epochs=2, moves=True):
        how = plan("ft", epochs)
        how.method["replay"] = {
            "part": "deepinversion",
            "labels": labels,
            "weight": self.WEIGHT,
            "share": 0.6,
            "moves_statistics": moves,
        }
        return lists.prepare(how, "step1", base, StageInputs(synthesis=made))

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
        trainer = self.trainer(lists, base, made, labels)
        network = copy.deepcopy(trainer.segmenter).train()
        old, sgd = checkpoint.load_model(base, CPU).segmenter, PlainSgd(network)
        n, told = iterations(trainer.data.images, 2), []
        for i, batch in enumerate(batches(trainer, 2)):
            assert (len(batch.images), len(batch.replayed.images)) == (2, 3)
            own = cross_entropy(network(batch.images).logits, batch.labels)
            images = batch.replayed.images
            with torch.no_grad():
                known = old(images).logits
            theirs = self.term(labels, network(images).logits, known, batch.replayed)
            told.append([own.item(), self.WEIGHT * theirs.item()])
            loss = own + self.WEIGHT * theirs
            sgd.step(torch.autograd.grad(loss, list(network.parameters())), poly(i, 2 * n))
        rows = run(trainer, tmp_path / "r").rows
        assert_same_weights(trainer.segmenter, network)
        for epoch, row in enumerate(rows):
            assert list(row) == ["epoch", "lr", "loss", "ce", "replayed"]
            means = np.mean(told[epoch * n : (epoch + 1) * n], 0)
            assert [row["ce"], row["replayed"]] == pytest.approx(means, rel=1e-3)
            assert row["loss"] == pytest.approx(row["ce"] + row["replayed"])
        assert trainer.old is None

    @pytest.mark.parametrize("moves", [False, True])
    def test_who_moves_the_running_statistics(self, lists, base, made, tmp_path, moves):
        trainer = self.trainer(lists, base, made, "hard", 1, moves)
        trainer = dataclasses.replace(trainer, data=dataclasses.replace(trainer.data, lr=1e-9))
        network = copy.deepcopy(trainer.segmenter).train()  # meets the same weights all along
        for batch in batches(trainer, 1):
            network(batch.images)
            if moves:
                network(batch.replayed.images)
        run(trainer, tmp_path / "r")
        norms = [m for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d)]
        got = [m for m in trainer.segmenter.modules() if isinstance(m, torch.nn.BatchNorm2d)]
        for mine, wanted in zip(got, norms, strict=True):
            assert mine.momentum == wanted.momentum == 0.1
            for name in ("running_mean", "running_var"):
                assert torch.allclose(getattr(mine, name), getattr(wanted, name), atol=1e-5)

    def test_every_image_is_shown_to_its_own_teacher(self, lists, base, made, tmp_path):
        told = []

        class Asking(Loss):
            needs_teachers = True

            def __call__(self, batch):
                told.append(batch.teacher_logits)
                return batch.logits.mean()

        later = lists.prepare(plan("ft"), "step1", base)
        model = tmp_path / "model.safetensors"
        checkpoint.save(model, later.segmenter, later.model, {})
        folder = tmp_path / "made"
        shutil.copytree(made, folder)
        names = [["m0", "m3"], ["m1", "m2", "m4"]]
        steps = [{"step": f"step{i}", "images": mine} for i, mine in enumerate(names)]
        write_json(folder / "manifest.json", {"images": [], "steps": steps})
        shutil.copy(model, store.teacher_path(folder, "step1"))
        how = plan("ft", 1)
        how.method["replay"] = {"part": "deepinversion", "share": 0.6, "labels": "soft"}
        trainer = lists.prepare(how, "step2", model, StageInputs(synthesis=folder))
        trainer = dataclasses.replace(
            trainer, method=dataclasses.replace(trainer.method, replayed={"replayed": Asking()})
        )
        teachers = [checkpoint.load_model(path, CPU).segmenter for path in (base, model)]
        shown = list(batches(trainer, 1))
        run(trainer, tmp_path / "r")
        assert len(told) == len(shown)
        for teacher_scores, batch in zip(told, shown, strict=True):
            images, sources = batch.replayed.images, batch.replayed.sources
            assert teacher_scores.shape[:2] == (3, 4)
            for one, image, source in zip(teacher_scores, images, sources, strict=True):
                with torch.no_grad():
                    said = teachers[source](image[None]).logits[0]
                assert torch.allclose(one[: len(said)], said, atol=1e-5)
                assert (one[len(said) :] == -math.inf).all()
                assert len(said) == (3, 4)[source]
        assert {int(s) for batch in shown for s in batch.replayed.sources} == {0, 1}

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

        trainer = self.trainer(lists, base, made, "hard")
        method = dataclasses.replace(
            trainer.method,
            losses={"own": Reader(own, "watched")},
            replayed={"theirs": Reader(theirs, "")},
            statistics={"watched": Watched()},
        )
        seen.clear()
        run(dataclasses.replace(trainer, method=method), tmp_path / "r")
        (watching,) = seen
        count = 2 * iterations(trainer.data.images, 2)
        assert len(own) == len(theirs) == len(watching.labels) == count
        for labels, (mine, *_), (made_ones, annotated, statistics, num_old) in zip(
            watching.labels, own, theirs, strict=True
        ):
            assert torch.equal(labels, mine)
            assert (len(mine), len(made_ones)) == (2, 3)
            assert torch.equal(annotated, made_ones)
            assert (statistics, num_old) == ({}, 3)
            assert not (made_ones == 3).any()


class Branched(FeatureExtractor):
    """An extractor whose first two stages have auxiliary classifiers."""

    auxiliary_weight = 0.4

    def __init__(self, inner):
        super().__init__()
        self.inner, self.backbone = inner, inner.backbone
        self.channels, self.last_stage_channels = inner.channels, inner.last_stage_channels
        self.auxiliary_channels = tuple(BACKBONE["widths"][:2])

    def forward(self, images):
        features = self.inner(images)
        return dataclasses.replace(features, auxiliary=features.stages[:2])


class TestAuxiliary:
    def test_auxiliary_classifiers_learn_what_is_annotated(self, lists, base, made, tmp_path):
        how = plan("mib", 1, lr=1e-9)  # so that every iteration meets the same weights
        how.method["losses"]["unbiased_ce"]["weight"] = 2.0
        how.method["replay"] = {"part": "deepinversion", "labels": "hard"}
        trainer = lists.prepare(how, "step1", base, StageInputs(synthesis=made))
        torch.manual_seed(0)
        network = Segmenter(Branched(trainer.segmenter.extractor), Linear(), [3, 1])
        trainer = dataclasses.replace(trainer, segmenter=network)
        copied, n = copy.deepcopy(network).train(), iterations(trainer.data.images, 2)
        expected = 0.0
        for batch in batches(trainer, 1):
            outputs = copied(batch.images)
            assert len(outputs.auxiliary) == 2
            for logits in outputs.auxiliary:
                expected += 0.4 * 2.0 * unbiased_cross_entropy(logits, batch.labels, 3).item() / n
            copied(batch.replayed.images)
        heads = {k: v for k, v in state(network).items() if k.startswith("auxiliary")}
        (row,) = run(trainer, tmp_path / "r").rows
        terms = ["unbiased_ce", "unbiased_kd", "auxiliary", "replayed"]
        assert list(row) == ["epoch", "lr", "loss", *terms]
        assert row["auxiliary"] == pytest.approx(expected, rel=1e-4)
        assert row["loss"] == pytest.approx(sum(row[name] for name in terms), rel=1e-5)
        assert len(heads) == 2 * 2 * 2
        moved = dataclasses.replace(trainer, data=dataclasses.replace(trainer.data, lr=0.1))
        run(moved, tmp_path / "r2")
        after = state(network)
        assert all(after[name] != before for name, before in heads.items())

    def test_without_them_there_is_no_such_column(self, lists, base, tmp_path):
        (row,) = run(lists.prepare(plan("mib", 1), "step1", base), tmp_path / "r").rows
        assert "auxiliary" not in row
