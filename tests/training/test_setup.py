import dataclasses
import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from cssegcore.core.errors import InputError
from cssegcore.core.files import write_json
from cssegcore.core.palette import save_labels
from cssegcore.inversion import store
from cssegcore.method.method import Method, Recipe
from cssegcore.models import checkpoint
from cssegcore.training.setup import Sources, reader
from tests.helpers.tiny_training import CPU, Lists, method_section, plan

VOID = 255
RNG = np.random.default_rng(0)
ANNOTATED = RNG.choice([0, 0, 0, 1, 3, VOID], (24, 24)).astype(np.uint8)
GUESSED = np.where(ANNOTATED == 0, RNG.choice([0, 1, 2, VOID], (24, 24)), ANNOTATED).astype(
    np.uint8
)
SALIENT = RNG.random((24, 24)) < 0.5


@pytest.fixture(scope="module")
def lists(tmp_path_factory):
    return Lists.write(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def sources(tmp_path):
    """Pseudo-labels of t0 in both lists and of t2 in one, saliency maps of t0 and t1."""
    made = Sources(tmp_path / "guessed", tmp_path / "memory", tmp_path / "saliency")
    assert made.pseudo_labels
    assert made.saliency
    write_json(
        made.pseudo_labels / "manifest.json", {"images": {"train": ["t0"], "memory": ["t0", "t2"]}}
    )
    for kind in ("train", "memory"):
        (made.pseudo_labels / kind).mkdir()
        for name in ("t0", "t2") if kind == "memory" else ("t0",):
            save_labels(made.pseudo_labels / kind / f"{name}.png", GUESSED)
    manifest = {"source": "computed", "images": ["t0", "t1"], "salient": 0.5}
    write_json(made.saliency / "manifest.json", manifest)
    for name in ("t0", "t1"):
        Image.fromarray(SALIENT.astype(np.uint8) * 255).save(made.saliency / f"{name}.png")
    return made


def method(unknown="none", **replay):
    section = json.loads(json.dumps(method_section("ssul_m" if replay else "ft")))
    section["base"]["unknown_class"] = {"part": unknown}
    section["replay"] |= replay
    return Method.of(Recipe.of(section))


def as_outputs(labels, unknown):
    """Network outputs [unknown, background, 1..] of labels, one pixel at a time."""
    outputs = np.empty_like(labels)
    for at in np.ndindex(labels.shape):
        if labels[at] == VOID:
            outputs[at] = VOID
        elif labels[at] == 0 and (unknown == "everything" or SALIENT[at]):
            outputs[at] = 0
        else:
            outputs[at] = labels[at] + 1
    return outputs


class TestReader:
    def test_nothing_changes_what_is_annotated(self, lists, tmp_path):
        write_json(tmp_path / "manifest.json", {"images": {}})
        for given in (Sources(), Sources(pseudo_labels=tmp_path)):
            assert reader(lists.dataset, method(), given, "train") is None

    def test_a_label_image_is_read_instead_of_the_annotation(self, lists, sources):
        revise = reader(lists.dataset, method(), sources, "train")
        labels, annotated = revise("t0", ANNOTATED)
        assert np.array_equal(labels, GUESSED)
        assert np.array_equal(annotated, ANNOTATED)
        assert not np.array_equal(labels, annotated)

    def test_an_image_without_one_is_labelled_as_annotated(self, lists, sources):
        labels, annotated = reader(lists.dataset, method(), sources, "train")("t1", ANNOTATED)
        assert np.array_equal(labels, ANNOTATED)
        assert np.array_equal(annotated, ANNOTATED)

    @pytest.mark.parametrize("unknown", ["everything", "salient"])
    def test_the_unknown_class_is_split_off_both(self, lists, sources, unknown):
        revise = reader(lists.dataset, method(unknown), sources, "train")
        for name, guessed in (("t0", GUESSED), ("t1", ANNOTATED)):
            labels, annotated = revise(name, ANNOTATED)
            assert np.array_equal(labels, as_outputs(guessed, unknown))
            assert np.array_equal(annotated, as_outputs(ANNOTATED, unknown))

    def test_each_list_has_label_images_of_its_own(self, lists, sources):
        (sources.pseudo_labels / "memory" / "t0.png").unlink()
        save_labels(sources.pseudo_labels / "memory" / "t0.png", ANNOTATED)
        for kind, name, expected in (
            ("train", "t0", GUESSED),
            ("memory", "t0", ANNOTATED),
            ("train", "t2", ANNOTATED),
            ("memory", "t2", GUESSED),
        ):
            labels, _ = reader(lists.dataset, method(), sources, kind)(name, ANNOTATED)
            assert np.array_equal(labels, expected)

    def test_exemplars_are_shifted_like_all_others(self, lists, sources):
        revise = reader(lists.dataset, method("salient", labels="shifted"), sources, "memory")
        labels, annotated = revise("t0", ANNOTATED)
        assert np.array_equal(labels, as_outputs(GUESSED, "salient"))
        assert np.array_equal(annotated, as_outputs(ANNOTATED, "salient"))

    def test_exemplars_as_released_make_no_room_for_the_unknown_class(self, lists, sources):
        how = method("salient", labels="released")
        labels, annotated = reader(lists.dataset, how, sources, "memory")("t0", ANNOTATED)
        expected = ANNOTATED.copy()
        for at in np.ndindex(expected.shape):
            if ANNOTATED[at] == 0 and GUESSED[at] in (1, 2):
                expected[at] = GUESSED[at] + 1
        assert np.array_equal(labels, expected)
        assert np.array_equal(annotated, ANNOTATED)
        # the step's own images are shifted all the same
        labels, _ = reader(lists.dataset, how, sources, "train")("t0", ANNOTATED)
        assert np.array_equal(labels, as_outputs(GUESSED, "salient"))

    def test_a_label_image_of_another_size_is_named(self, lists, sources):
        save_labels(sources.pseudo_labels / "train" / "t0.png", GUESSED[:20])
        revise = reader(lists.dataset, method(), sources, "train")
        with pytest.raises(InputError, match=r"t0\.png has the shape \(20, 24\).*`dvc repro`"):
            revise("t0", ANNOTATED)

    def test_a_label_image_that_is_not_there_is_named(self, lists, sources):
        (sources.pseudo_labels / "train" / "t0.png").unlink()
        revise = reader(lists.dataset, method(), sources, "train")
        with pytest.raises(InputError, match=r"t0\.png does not exist"):
            revise("t0", ANNOTATED)

    def test_saliency_that_is_not_there_is_named(self, lists):
        with pytest.raises(InputError, match="needs saliency maps: run `dvc repro saliency`"):
            reader(lists.dataset, method("salient"), Sources(), "train")


@pytest.fixture(scope="module")
def model(lists, tmp_path_factory):
    """The file of an untrained base step of SSUL."""
    folder, how = tmp_path_factory.mktemp("base"), plan("ssul_m")
    job = lists.prepare(how, "step0", None, lists.sources(how, "step0", None, folder))
    checkpoint.save(folder / "model.safetensors", job.segmenter, job.model, {})
    return folder / "model.safetensors"


class TestPrepare:
    def prepared(self, lists, model, tmp_path, **replay):
        how = plan("ssul_m")
        method = json.loads(json.dumps(how.method))
        method["replay"] |= {"size": 3, **replay}
        how = dataclasses.replace(how, method=method)
        given = lists.sources(how, "step1", model, tmp_path)
        return lists.prepare(how, "step1", model, given)

    def test_exemplars_are_replayed_with_all_their_classes(self, lists, model, tmp_path):
        job = self.prepared(lists, model, tmp_path, share=0.25)
        replayed = job.task.replayed
        kept = json.loads((tmp_path / "step1" / "memory" / "manifest.json").read_text())["images"]
        assert replayed.images.names == kept
        assert len(kept) == 3
        assert replayed.share == 0.25
        seen = {int(c) for _, _, labels in replayed.images.decoded() for c in np.unique(labels)}
        assert {2, 3} <= seen  # the base step's classes, behind unknown and background

    def test_the_old_model_counts_its_outputs(self, lists, model, tmp_path):
        job = self.prepared(lists, model, tmp_path)
        assert job.task.num_old == 4  # unknown, background and two classes
        assert job.segmenter.outputs == 5
        assert job.model.unknown == "sigmoid"
        assert job.old is None

    def test_what_is_frozen_is_frozen(self, lists, model, tmp_path):
        job = self.prepared(lists, model, tmp_path)
        moving = {n for n, p in job.segmenter.named_parameters() if p.requires_grad}
        assert moving
        assert not any(name.startswith(("extractor", "heads.2.")) for name in moving)
        assert {name.split(".")[1] for name in moving} == {"0", "1", "3"}
        assert {name for name in job.rates if job.rates[name] != 1} == {
            name for name in moving if name.startswith("heads.1.")
        }

    def test_a_model_with_other_heads_is_refused(self, lists, model):
        with pytest.raises(InputError, match=r"head .*conv.*, not .*linear.*Run `dvc repro`") as no:
            lists.prepare(plan("ft"), "step1", model)
        assert "\n" not in str(no.value)

    def test_no_memory_folder_replays_nothing(self, lists, model, tmp_path):
        how = plan("ssul_m")
        given = lists.sources(how, "step1", model, tmp_path)
        without = dataclasses.replace(given, memory=tmp_path / "nothing")
        assert lists.prepare(how, "step1", model, without).task.replayed is None


class TestMadeImages:
    @pytest.fixture
    def base(self, lists, tmp_path):
        """The file of an untrained base step."""
        path = tmp_path / "model.safetensors"
        job = lists.prepare(plan("ft"), "step0")
        checkpoint.save(path, job.segmenter, job.model, {})
        return path

    @pytest.fixture
    def made(self, base, tmp_path):
        """Three made images of red and green, the rest void."""
        images = []
        for at in range(3):
            labels = np.full((16, 16), VOID, np.uint8)
            labels[:4], labels[4:8], labels[8:10] = 0, 1, 2
            image = np.full((16, 16, 3), 50 * at, np.uint8)
            images.append(
                store.write_image(
                    tmp_path, store.GeneratedImage(f"m{at}", image, labels, labels, labels)
                )
            )
        steps = [{"step": "step0", "images": ["m0", "m1", "m2"]}]
        write_json(tmp_path / "manifest.json", {"steps": steps})
        (tmp_path / "models").mkdir()
        shutil.copy(base, store.teacher_path(tmp_path, "step0"))
        return tmp_path, images

    def prepared(self, lists, base, folder, step="step1", **replay):
        how = plan("deepinversion")
        how.method["replay"].update(replay)
        return lists.prepare(how, step, base, Sources(synthesis=folder))

    @pytest.mark.parametrize("labels", ["hard", "soft", "logits"])
    def test_they_are_read_with_their_labels(self, lists, base, made, labels):
        folder, images = made
        store.image_list(lists.of("step1"), 3, images).write(folder / "list.json")
        job = self.prepared(lists, base, folder, share=0.25, labels=labels)
        replayed = job.task.replayed
        assert (replayed.share, replayed.separate_batches) == (0.25, True)
        found = {name: (image, labels) for name, image, labels in replayed.images.decoded()}
        assert list(found) == ["m0", "m1", "m2"]
        for at in range(3):
            image, labels = found[f"m{at}"]
            assert (image == 50 * at).all()
            assert labels[::2, 0].tolist() == [0, 0, 1, 1, 2, *[VOID] * 3]

    @pytest.mark.parametrize(("labels", "asked"), [("hard", 0), ("soft", 1), ("logits", 1)])
    def test_teachers_are_there_for_terms_that_ask_them(self, lists, base, made, labels, asked):
        folder, images = made
        store.image_list(lists.of("step1"), 3, images).write(folder / "list.json")
        how = plan("ft")
        how.method["replay"] = {"part": "deepinversion", "labels": labels}
        job = lists.prepare(how, "step1", base, Sources(synthesis=folder))
        assert (len(job.teachers), job.old) == (asked, None)
        assert job.task.replayed.sources.tolist() == [0, 0, 0]
        for teacher in job.teachers:
            told, stored = torch.rand(2, 3, 16, 16), checkpoint.load(base, CPU).segmenter
            assert torch.allclose(teacher(told).logits, stored(told).logits, atol=1e-5)
            assert not any(weight.requires_grad for weight in teacher.parameters())
            assert not teacher.training

    def test_what_is_not_there_is_not_replayed(self, lists, base, made):
        folder, images = made  # images without a list
        for given in (folder, folder / "nothing", None):
            assert self.prepared(lists, base, given).task.replayed is None
        store.image_list(lists.of("step1"), 3, images).write(folder / "list.json")
        assert lists.prepare(plan("deepinversion"), "step0").task.replayed is None
        plain = lists.prepare(plan("ft"), "step1", base, Sources(synthesis=folder))
        assert plain.task.replayed is None
