import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from cssegcore.core.errors import InputError
from cssegcore.core.normalization import IMAGENET
from cssegcore.core.registry import build_part
from cssegcore.data.batches import evaluation_batches
from cssegcore.data.image_list import ImageList
from cssegcore.data.image_store import ImageStore
from cssegcore.data.index import build_index
from cssegcore.method.replay import ExemplarRequest, Replay, exemplars
from cssegcore.method.replay.exemplars import Exemplars, choose, contains, orders
from cssegcore.models import checkpoint
from cssegcore.scenario.lists import StepLists
from cssegcore.scenario.scenario import Scenario
from cssegcore.scenario.splits import write_splits
from cssegcore.training.setup import StageInputs
from tests.helpers.tiny_dataset import write_lines
from tests.helpers.tiny_training import CPU, MODEL, Lists, plan

torch.set_num_threads(1)


def part(**numbers):
    return build_part("cssegcore.method.replay", Replay, {"part": "exemplars", **numbers}, "x")


def published(shown, size, seed):
    """The released selection on lists, but that it ends when nothing is left to take."""
    rng = np.random.RandomState(seed)
    remaining, classes = list(range(len(shown))), list(range(1, len(shown[0])))
    rng.shuffle(remaining)
    rng.shuffle(classes)
    picked = {c: [] for c in sorted(classes)}
    while any(shown[at][c] for at in remaining for c in classes):
        for c in classes:
            fitting = [at for at in remaining if shown[at][c]]
            if sum(map(len, picked.values())) == size:
                return picked
            if fitting:
                picked[c].append(fitting[0])
                remaining.remove(fitting[0])
    return picked


def scarce(seed, candidates=40, known=7):
    """What candidates show: few classes each, some of them rare, some candidates none."""
    rng = np.random.default_rng(seed)
    shown = rng.random((candidates, known)) < np.linspace(0.02, 0.4, known)
    shown[:, 0] = False
    shown[3] = False
    return shown


class TestContains:
    def test_by_hand(self):
        labels = np.array([[0, 0, 3], [255, 1, 3]], np.uint8)
        assert contains(labels, 5).tolist() == [False, True, False, True, False]

    def test_background_void_and_later_classes_are_nothing_to_keep(self):
        labels = np.array([[0, 255, 4, 9]], np.uint8)
        assert not contains(labels, 4).any()

    def test_a_photograph_of_nothing_but_void(self):
        assert not contains(np.full((2, 3), 255, np.uint8), 3).any()


class TestOrders:
    def test_each_is_a_permutation_and_depends_on_the_seed_alone(self):
        shuffled, classes = orders(30, 8, 1)
        assert sorted(shuffled) == list(range(30))
        assert sorted(classes) == list(range(1, 8))
        again = orders(30, 8, 1)
        assert np.array_equal(again[0], shuffled)
        assert np.array_equal(again[1], classes)
        assert not np.array_equal(orders(30, 8, 2)[0], shuffled)

    def test_any_seed_will_do(self):
        assert len(orders(3, 2, 2**40)[0]) == 3


class TestChoose:
    @pytest.mark.parametrize("seed", range(5))
    @pytest.mark.parametrize("size", [1, 6, 13, 30, 40, 100])
    def test_it_is_the_published_choice(self, seed, size):
        shown = scarce(seed)
        assert choose(shown, size, *orders(*shown.shape, seed)) == published(shown, size, seed)

    def test_by_hand(self):
        shown = np.array([[0, 1, 0], [0, 1, 1], [0, 0, 1], [0, 1, 0], [0, 0, 0]], bool)
        order = np.array([4, 1, 0, 2, 3])
        # class 2 is served first and takes 1, which class 1 then lacks
        assert choose(shown, 3, order, np.array([2, 1])) == {1: [0], 2: [1, 2]}
        assert choose(shown, 3, order, np.array([1, 2])) == {1: [1, 0], 2: [2]}
        assert choose(shown, 4, order, np.array([1, 2])) == {1: [1, 0, 3], 2: [2]}

    @pytest.mark.parametrize("seed", range(5))
    def test_classes_are_balanced_and_nothing_is_taken_twice(self, seed):
        shown = scarce(seed, candidates=300)
        image_list = choose(shown, 30, *orders(*shown.shape, seed))
        taken = [at for group in image_list.values() for at in group]
        assert len(taken) == len(set(taken)) == 30
        assert all(shown[at, c] for c, group in image_list.items() for at in group)
        most = max(map(len, image_list.values()))
        for c, group in image_list.items():
            left = set(np.flatnonzero(shown[:, c])) - set(taken)
            assert len(group) >= most - 1 or not left

    def test_when_candidates_run_out_it_keeps_what_there_is(self):
        shown = scarce(0)
        image_list = choose(shown, 1000, *orders(*shown.shape, 0))
        taken = {at for group in image_list.values() for at in group}
        assert taken == set(np.flatnonzero(shown.any(1)))
        assert 3 not in taken

    def test_a_class_that_nobody_shows_gets_nothing(self):
        shown = np.array([[0, 1, 0], [0, 1, 0]], bool)
        assert choose(shown, 2, np.array([1, 0]), np.array([2, 1])) == {1: [1, 0], 2: []}


@pytest.fixture(scope="module")
def lists(tmp_path_factory):
    return Lists.write(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def on_cpu(monkeypatch):
    monkeypatch.setenv("CSSEGCORE_DEVICE", "cpu")


def request_for(lists, to, kept=None, model=None, seed=1, seen=None):
    before = {"step1": "step0", "step2": "step1"}[to]
    return ExemplarRequest(
        dataset=lists.dataset,
        current=lists.of(to),
        previous_images=lists.of(before),
        previous_memory=kept,
        model=model or lists.folder / "no model is read",
        seed=seed,
        progress=lambda items, count: items if seen is None else (seen.append(count), items)[1],
    )


def remembered(out):
    return ImageList.read(out / "list.json"), json.loads((out / "manifest.json").read_text())


def first_memory(tmp_path, lists):
    part(size=3).select_exemplars(tmp_path / "first", request_for(lists, "step1"))
    return remembered(tmp_path / "first")[0]


ANNOTATED = [{1}, {2}, {3}, {4}, {1, 2}, {2, 3}, {3, 4}, {1, 2, 3, 4}]
"""The classes of t0, t1, …: red, green, blue, yellow."""


def annotated(name, visible):
    """Whether a photograph shows each class up to the last visible one."""
    shown = ANNOTATED[int(name[1:])] & set(visible)
    return [c in shown for c in range(max(visible) + 1)]


class TestAfterTheBaseStep:
    def test_the_annotation_alone_is_read(self, tmp_path, lists):
        seen = []
        part(size=3).select_exemplars(tmp_path, request_for(lists, "step1", seen=seen))
        memory, manifest = remembered(tmp_path)
        finished = lists.of("step0")
        shown = [annotated(name, [1, 2]) for name in finished.names]
        expected = published(shown, 3, 1)
        order = sorted(at for group in expected.values() for at in group)
        assert memory.images == [finished.images[at] for at in order]
        assert manifest["images"] == memory.names
        assert manifest["wanted"] == 3
        assert manifest["classes"] == [
            {"class": name, "chosen": len(expected[c]), "candidates": sum(s[c] for s in shown)}
            for c, name in ((1, "red"), (2, "green"))
        ]
        assert sum(seen) == 5

    def test_the_list_is_for_the_step_to_come_and_shows_every_class_seen(self, tmp_path, lists):
        memory = first_memory(tmp_path, lists)
        current = lists.of("step1")
        assert (memory.step, memory.index) == ("step1", 1)
        assert memory.classes == current.classes
        assert memory.visible == lists.of("step1", "seen").visible == [1, 2, 3]
        # raw labels, of which the network knows: background, the classes seen, void
        assert memory.label_table()[[0, 1, 2, 3, 4, 255]].tolist() == [0, 1, 2, 3, 0, 255]

    def test_the_seed_decides(self, tmp_path, lists):
        found = set()
        for seed in range(6):
            for again in range(2):
                out = tmp_path / f"{seed}-{again}"
                part(size=2).select_exemplars(out, request_for(lists, "step1", seed=seed))
            texts = {(tmp_path / f"{seed}-{a}" / "list.json").read_text() for a in range(2)}
            assert len(texts) == 1
            found |= texts
        assert len(found) > 1

    def test_a_memory_larger_than_the_dataset_keeps_all_and_says_so(self, tmp_path, lists):
        part(size=50).select_exemplars(tmp_path, request_for(lists, "step1"))
        memory, manifest = remembered(tmp_path)
        assert memory.names == lists.of("step0").names == ["t0", "t1", "t4", "t5", "t7"]
        assert (manifest["wanted"], len(manifest["images"])) == (50, 5)


class TestAfterALaterStep:
    @pytest.fixture(params=[("sigmoid", 40), ("sigmoid", 400), (None, 400)])
    def model(self, request, tmp_path, lists):
        """A model that is sure of itself here and there."""
        unknown, scale = request.param
        torch.manual_seed(3)
        step = lists.of("step1")
        known = checkpoint.Model("step1", MODEL, {"part": "conv"}, unknown, step.classes)
        segmenter = known.segmenter()
        for head in segmenter.groups:
            head.classifier.weight.data *= scale
        checkpoint.save(tmp_path / "model", segmenter, known, {})
        return tmp_path / "model"

    @staticmethod
    def sure(lists, path, threshold):
        """What a model finds in the photographs of step 1 beside the annotated class, in loops."""
        segmenter = checkpoint.load_model(path, CPU).segmenter
        before = 1 if segmenter.unknown else 0
        shown = {}
        for names, batch in evaluation_batches(
            ImageStore(lists.dataset, lists.of("step1")), 1, CPU, IMAGENET
        ):
            with torch.inference_mode():
                logits = segmenter(batch.images).logits[0].double().numpy()
            found = set()
            for at in np.ndindex(logits.shape[1:]):
                label = int(batch.labels[0][at])
                scores = logits[(slice(None), *at)]
                best = int(scores.argmax())
                sure = 1 / (1 + np.exp(-scores[best])) >= threshold
                if label == 0 and best > before and sure:
                    label = best - before
                found.add(label)
            shown[names[0]] = [c in found - {0} for c in range(4)]
        return shown

    @pytest.mark.parametrize("threshold", [0.7, 0.99])
    def test_old_entries_come_first_and_the_model_completes_the_others(
        self, tmp_path, lists, model, on_cpu, threshold
    ):
        kept = first_memory(tmp_path, lists)
        shared = set(kept.names) & set(lists.of("step1").names)
        assert shared  # photographs of both lists
        part(size=4, threshold=threshold).select_exemplars(
            tmp_path / "second", request_for(lists, "step2", kept, model)
        )
        memory, manifest = remembered(tmp_path / "second")

        shown = [annotated(name, [1, 2, 3]) for name in kept.names]
        new = [name for name in lists.of("step1").names if name not in shared]
        found = self.sure(lists, model, threshold)
        shown += [found[name] for name in new]
        expected = published(shown, 4, 1)
        names = [*kept.names, *new]
        order = sorted(at for group in expected.values() for at in group)
        assert memory.names == [names[at] for at in order]
        assert [row["chosen"] for row in manifest["classes"]] == [
            len(expected[c]) for c in (1, 2, 3)
        ]
        counts = [row["candidates"] for row in manifest["classes"]]
        assert counts == [sum(s[c] for s in shown) for c in (1, 2, 3)]
        digests = dict(kept.images + lists.of("step1").images)
        assert memory.images == [[name, digests[name]] for name in memory.names]
        assert memory.visible == [1, 2, 3, 4]

    def test_what_the_model_is_sure_of_matters(self, lists, model):
        found = self.sure(lists, model, 0.7)
        assert any(row[1] or row[2] for row in found.values())

    def test_without_a_memory_before(self, tmp_path, lists, model, on_cpu):
        part(size=9).select_exemplars(tmp_path / "out", request_for(lists, "step2", None, model))
        assert remembered(tmp_path / "out")[0].names == lists.of("step1").names

    def test_when_all_of_the_step_is_kept_already(self, tmp_path, lists, model, on_cpu):
        kept = lists.of("step1", "seen")
        part(size=2).select_exemplars(tmp_path / "out", request_for(lists, "step2", kept, model))
        assert len(remembered(tmp_path / "out")[0].images) == 2


STEPS = {"step0": ["red"], "step1": ["green"], "step2": ["blue"]}
LISTED = {"step0": ["t0", "t7"], "step1": ["t1", "t4"], "step2": ["t2", "t5"]}
"""Lists of which only the first has an image, t7, that shows yellow, which no step learns."""


class TestClassesThatNoStepLearns:
    @pytest.fixture
    def void(self, tmp_path, lists, monkeypatch):
        """Lists of steps that list their images; no model completes what is annotated."""
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(Exemplars, "_completed", lambda _, *given: exemplars._annotated(*given))
        Path("lists").mkdir()
        for step, images in LISTED.items():
            write_lines(Path(f"lists/{step}.txt"), images)
        write_lines(Path("lists/test.txt"), ["v0"])
        own = {step: StepLists(f"lists/{step}.txt", "lists/test.txt") for step in STEPS}
        classes, entries = lists.dataset.classes, build_index(lists.dataset, lambda items, _: items)
        scenario = Scenario.of("listed", classes, STEPS, left_out="void", lists=own)
        write_splits(tmp_path / "split", scenario, entries, classes)
        return Lists(lists.dataset, tmp_path / "split")

    def test_they_are_void_on_kept_photographs_though_no_own_image_shows_them(self, tmp_path, void):
        assert [void.of(step).ignored for step in STEPS] == [[4], [], []]
        kept = None
        for step in ("step1", "step2"):
            part(size=9).select_exemplars(tmp_path / step, request_for(void, step, kept))
            kept = remembered(tmp_path / step)[0]
            assert "t7" in kept.names
            assert kept.label_table()[[4, 255]].tolist() == [255, 255]

    @pytest.mark.parametrize(("method", "unknown"), [("ssul_m", "everything"), ("dkd_m", "none")])
    def test_a_training_ignores_their_pixels(self, tmp_path, void, method, unknown):
        """Whether exemplars show all classes so far, or the step's own alone (`labels: step`)."""
        how = plan(method)
        how.method["base"]["unknown_class"] = {"part": unknown}
        base = void.prepare(how, "step0")
        checkpoint.save(tmp_path / "model", base.segmenter, base.model, {})
        part(size=9).select_exemplars(tmp_path / "memory", request_for(void, "step1"))
        given = StageInputs(memory=tmp_path / "memory")
        kept = void.prepare(how, "step1", tmp_path / "model", given).data.replayed.images
        decoded = dict(zip(kept.names, kept.decoded(), strict=True))
        assert (decoded["t7"][2][void.dataset.label("t7") == 4] == 255).all()

    def test_a_list_without_more_of_them_keeps_its_bytes(self, tmp_path, lists):
        request = request_for(lists, "step1")
        given = {key: [4] for key in ("current", "previous_images")}
        given = {
            k: dataclasses.replace(getattr(request, k), ignored=raw) for k, raw in given.items()
        }
        part(size=3).select_exemplars(tmp_path, dataclasses.replace(request, **given))
        memory = remembered(tmp_path)[0]
        assert memory == dataclasses.replace(
            given["current"], visible=[1, 2, 3], images=memory.images
        )


class TestPart:
    def test_what_reads_no_model_pays_for_no_torch(self):
        code = "import sys, cssegcore.method.replay.exemplars; sys.exit('torch' in sys.modules)"
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

    def test_photographs_are_kept_and_none_is_made(self):
        made = part()
        assert (made.selects_exemplars, made.generates, dict(made.terms)) == (True, False, {})

    def test_published_numbers(self):
        made = part()
        assert (made.size, made.share, made.threshold, made.scores) == (100, 0.5, 0.7, "sigmoid")

    def test_labels_are_shifted_but_for_the_released_defect(self):
        assert part().uses_unknown_class
        assert not part(labels="released").uses_unknown_class

    def test_labels_and_mix_of_dkd(self):
        made = part(labels="step", mix="concatenated", share=0)
        assert (made.labelled_as_own, made.concatenated, made.uses_unknown_class) == (True,) * 3
        assert not part().labelled_as_own
        assert not part().concatenated
        recipe = {"labels": "step", "mix": "concatenated", "share": 0, "size": 7}
        assert made.stage_parameters(recipe) == {"size": 7}
        with pytest.raises(InputError, match=r"`share` is 0\.5, .* set `share` to 0, or `mix` to"):
            part(mix="concatenated")

    @pytest.mark.parametrize(
        ("key", "number"),
        [
            ("size", 0),
            ("batch_size", 0),
            ("share", 0.0),
            ("share", 1.0),
            ("threshold", -0.5),
            ("threshold", 1.5),
        ],
    )
    def test_numbers(self, key, number):
        with pytest.raises(InputError, match=rf"`x`: `{key}`.*got {number}"):
            part(**{key: number})

    def test_keys(self):
        with pytest.raises(InputError, match=r"`x\.labels` must be one of shifted, released"):
            part(labels="fixed")
        with pytest.raises(InputError, match=r"`x\.shifted` is not a key"):
            part(shifted=False)
