import dataclasses
import json

import numpy as np
import pytest
import torch
from PIL import Image

from cssegcore.core.normalization import IMAGENET
from cssegcore.data.batches import training_batches
from cssegcore.data.image_list import ImageList
from cssegcore.method.method import Method, Recipe
from cssegcore.models import checkpoint
from cssegcore.training.labels import padding
from cssegcore.training.setup import StageInputs, build_trainer
from tests.helpers import tiny_dataset as scenes
from tests.helpers.greys import bytes_of
from tests.helpers.tiny_training import CPU, Lists, method_section, plan


@pytest.fixture(scope="module")
def lists(tmp_path_factory):
    return Lists.write(tmp_path_factory.mktemp("tiny"))


def method(name, unknown, **replay):
    section = json.loads(json.dumps(method_section(name)))
    section["base"]["unknown_class"] = {"part": unknown}
    section["replay"] |= replay
    return Method.of(Recipe.of(section))


SPACIOUS = {"part": "scale_and_crop", "size": 40, "scale": [1, 1], "flip": 0.5}
"""A photograph of 24 by 24 pixels has one place in it: 8 pixels of padding on each side."""


def epoch(trainer, batch_size):
    """The batches of an epoch of a trainer."""
    images, replayed, rng = trainer.data.images, trainer.data.replayed, np.random.default_rng(1)
    return training_batches(images, trainer.augmentation, batch_size, rng, CPU, IMAGENET, replayed)


class TestPadding:
    @pytest.mark.parametrize(
        ("name", "unknown", "value"),
        [("ssul", "salient", 1), ("ssul", "everything", 0), ("mib", "none", 0)],
    )
    def test_it_is_black_background(self, tmp_path, lists, name, unknown, value):
        how = plan(name, augmentation=SPACIOUS)
        how.method["base"]["unknown_class"] = {"part": unknown}
        sources = lists.sources(how, "step0", None, tmp_path)
        trainer = lists.prepare(how, "step0", sources=sources)
        assert padding(trainer.method, "train") == value
        decoded = {name: (p, x) for name, p, x in trainer.data.images.decoded()}
        assert {0, 255} < set(np.unique([x for _, x in decoded.values()]).tolist())
        views = {}
        for place, (photograph, labels) in decoded.items():
            black, filled = (
                np.pad(photograph, ((8, 8), (8, 8), (0, 0))),
                np.pad(labels, 8, constant_values=value),
            )
            views[place] = (black, filled), (black[:, ::-1], filled[:, ::-1])
        left = set(decoded)
        for batch in epoch(trainer, 1):
            seen, labels = bytes_of(batch.images[0]), batch.labels[0].numpy()
            assert torch.equal(batch.labels, batch.annotated)
            left.remove(
                next(
                    place
                    for place, both in views.items()
                    for p, x in both
                    if np.abs(seen - p).max() < 1e-3 and np.array_equal(labels, x)
                )
            )
        assert not left

    @pytest.mark.parametrize(
        ("labels", "kind", "value"),
        [("shifted", "memory", 1), ("released", "memory", 0), ("released", "train", 1)],
    )
    def test_in_exemplars_it_is_what_their_background_is(self, labels, kind, value):
        assert padding(method("ssul_m", "salient", labels=labels), kind) == value

    def test_a_job_asks_for_the_padding_of_exemplars(self, tmp_path, lists):
        how = plan("ssul_m", augmentation=SPACIOUS)
        how.method["replay"] |= {"labels": "released", "share": 0.5}
        trainer = lists.prepare(how, "step0", sources=lists.sources(how, "step0", None, tmp_path))
        path = tmp_path / "model"
        checkpoint.save(path, trainer.segmenter, trainer.model, {})
        memory = tmp_path / "memory"
        lists.of("step0").write(memory / "list.json")
        sources = StageInputs(memory=memory, saliency=lists.folder / "saliency")
        step = lists.prepare(how, "step1", path, sources)
        batch = next(epoch(step, 4))
        assert sorted(batch.labels[:, 0, 0].tolist()) == [0, 0, 1, 1]


class TestVoid:
    def test_a_list_s_file_does_not_say(self, lists, tmp_path):
        image_list = lists.of("step1", "test")
        dataclasses.replace(image_list, void="background").write(tmp_path / "list.json")
        assert ImageList.read(tmp_path / "list.json") == image_list
        assert "void" not in (tmp_path / "list.json").read_text()

    def test_a_job_s_exemplars_read_it_as_its_images_do(self, tmp_path, lists):
        how = plan("ssul_m", augmentation=SPACIOUS)
        how.method["base"]["unknown_class"] = {"part": "everything"}
        trainer = lists.prepare(how, "step0")
        checkpoint.save(tmp_path / "model", trainer.segmenter, trainer.model, {})
        lists.of("step0").write(tmp_path / "memory" / "list.json")
        for void, held in (("ignore", True), ("background", False)):
            image_list = dataclasses.replace(lists.of("step1"), void=void)
            sources = StageInputs(memory=tmp_path / "memory")
            trainer = build_trainer(
                how, lists.dataset, image_list, tmp_path / "model", CPU, sources
            ).data
            for images in (trainer.images, trainer.replayed.images):
                assert {255 in labels for _, _, labels in images.decoded()} == {held}


class TestStages:
    def test_void_is_the_training_s_and_its_labels_choice(self, project):
        """Trains on void as background, then on void ignored; tests do not change."""
        weights, made = [], []
        project.set("method.pseudo_labels", {"part": "sigmoid", "threshold": 0.0})
        project.set("method.losses", {"bce": {"part": "bce"}})
        project.set("method.base.losses", {"bce": {"part": "bce"}})
        assert project.run(*scenes.BEFORE_TRAINING).status == 0
        test = (project.folder / "work/split/step0/test.json").read_bytes()
        for void in ("ignore", "background"):
            project.set("labels.void", void)
            assert project.run("train@step0", "pseudo_label@step1").status == 0
            weights.append((project.folder / "work/step0/model.safetensors").read_bytes())
            labels = (project.folder / "work/step1/pseudo_labels/train").glob("*.png")
            made.append({255 in np.asarray(Image.open(path)) for path in labels})
        assert weights[0] != weights[1]
        assert made == [{True}, {False}]
        assert (project.folder / "work/split/step0/test.json").read_bytes() == test
