"""Models whose output 0 is no learned background: networks, files, decisions, trainings."""

import dataclasses
import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from cssegcore import api
from cssegcore.core.class_table import ClassTable
from cssegcore.core.errors import InputError
from cssegcore.data.crop_and_resize import normalise
from cssegcore.method.compatibility import check_recipe
from cssegcore.method.scenario_compatibility import check_without_new_classes
from cssegcore.models import checkpoint
from cssegcore.models.checkpoint import Model
from cssegcore.models.segmenter import class_scores, classify
from tests.helpers.background_refusals import DKD_LIKE, STAR_LIKE
from tests.helpers.tiny_training import CPU, LINEAR, MODEL, plan, state
from tests.method.test_compatibility import assembled

CLASSES = ClassTable.of([["background", "red", "green"], ["blue"]], [[0, 1, 2], [3]])
KINDS = ("rejected", "auxiliary")


def network(background, classes=CLASSES):
    torch.manual_seed(0)
    return Model("step1", MODEL, LINEAR, None, classes, background).segmenter().eval()


def images(seed=0):
    return torch.randn(2, 3, 16, 16, generator=torch.manual_seed(seed))


class TestNetwork:
    def test_a_rejected_background_has_no_weights_and_scores_0(self):
        made = network("rejected")
        assert [head.classifier.out_channels for head in made.groups] == [2, 1]
        assert (made.outputs, made.classes) == (4, 4)
        outputs = made(images())
        assert outputs.logits.shape[1] == outputs.logits_lowres.shape[1] == 4
        assert (outputs.logits[:, 0] == 0).all()
        assert (outputs.logits[:, 1:] != 0).all()

    def test_an_auxiliary_output_moves_itself_alone(self):
        made = network("auxiliary")
        assert [head.classifier.out_channels for head in made.groups] == [1, 2, 1]
        assert (made.outputs, made.classes) == (4, 4)
        made.train()(images()).logits[:, 0].sum().backward()
        moved = {n for n, w in made.named_parameters() if w.grad is not None and w.grad.any()}
        assert moved == {"heads.0.classifier.weight", "heads.0.classifier.bias"}

    @pytest.mark.parametrize("background", ["argmax", *KINDS])
    def test_classifiers_are_the_heads_in_the_order_of_outputs(self, background):
        made = network(background)
        outputs, layers = made(images()), made.classifiers()
        top = outputs.features.decoder_out
        scored = F.conv2d(top, layers.weight[:, :, None, None], layers.bias)
        assert torch.allclose(scored, outputs.logits_lowres, atol=1e-6)
        layers.weight.sum().backward()
        assert all((head.classifier.weight.grad == 1).all() for head in made.groups)


class TestDecision:
    LOGITS = torch.tensor(
        [[9.0, -1.0, -2.0], [9.0, 0.5, 1.5], [-9.0, 0.0, -1.0], [-9.0, 2.0, 1.0]]
    ).T[None, :, None]
    """Output 0 and two classes, of four pixels."""

    def test_a_class_is_chosen_where_it_is_likelier_than_not(self):
        expected = [[[0, 2, 0, 1]]]
        assert classify(self.LOGITS, None, "auxiliary").tolist() == expected
        constant = torch.cat([torch.zeros_like(self.LOGITS[:, :1]), self.LOGITS[:, 1:]], 1)
        assert classify(constant, None, "rejected").tolist() == expected
        made = network("auxiliary")
        assert made.classify(self.LOGITS).tolist() == expected
        assert torch.equal(made.decisive(self.LOGITS), constant)
        assert network("argmax").classify(self.LOGITS).tolist() == [[[0, 0, 1, 1]]]

    @pytest.mark.parametrize("background", KINDS)
    def test_scores_are_sigmoids_and_the_background_has_the_rest(self, background):
        scores = class_scores(self.LOGITS, None, background)[0, :, 0].T.numpy()
        sigmoid = 1 / (1 + np.exp(-self.LOGITS[0, 1:, 0].T.numpy()))
        np.testing.assert_allclose(scores[:, 1:], sigmoid, rtol=1e-6)
        np.testing.assert_allclose(scores[:, 0], 1 - sigmoid.max(1), rtol=1e-6)


class TestFile:
    @pytest.mark.parametrize("background", KINDS)
    def test_the_file_says_it_and_a_prediction_is_right(self, background, tmp_path):
        made, path = network(background), tmp_path / "model.safetensors"
        about = Model("step1", MODEL, LINEAR, None, CLASSES, background)
        photograph = np.random.default_rng(0).integers(0, 256, (1, 16, 16, 3), np.uint8)
        with torch.no_grad():  # some of it is background; an auxiliary output would say all
            surest = self.logits(made, photograph)[:, 1:].amax(1).median()
            for head in made.groups:
                head.classifier.bias -= surest
            if background == "auxiliary":
                made.groups[0].classifier.bias.fill_(100)
        checkpoint.save(path, made, about, {})
        loaded = checkpoint.load_model(path, CPU)
        assert loaded.model == about
        assert state(loaded.segmenter) == state(made)
        model = api.load(path, "cpu")
        (told,) = api.predict(model, photograph)
        logits = self.logits(model.segmenter, photograph)[0, 1:].numpy()
        expected = np.where(logits.max(0) > 0, logits.argmax(0) + 1, 0)
        assert np.array_equal(told.labels, expected)
        assert {0} < set(np.unique(expected))
        surest = 1 / (1 + np.exp(-logits.max(0)))
        scores = np.where(expected > 0, surest, 1 - surest)
        np.testing.assert_allclose(told.confidences, scores, rtol=1e-5)

    @torch.inference_mode()
    def logits(self, segmenter, photograph):
        return segmenter(normalise(torch.from_numpy(photograph), segmenter.normalization)).logits

    def test_a_file_that_does_not_say_it_has_a_learned_background(self, tmp_path):
        path = tmp_path / "model.safetensors"
        about = Model("step1", MODEL, LINEAR, None, CLASSES)
        checkpoint.save(path, network("argmax"), about, {})
        tensors = load_file(path)
        text = dataclasses.asdict(about) | CLASSES.as_file()
        del text["background"]
        text["digest"] = checkpoint._digest(tensors, text)
        save_file(tensors, path, {checkpoint.KEY: json.dumps(text)})
        assert checkpoint.load_model(path, CPU).model == about

    def test_weights_of_another_kind_do_not_fit(self, tmp_path):
        path = tmp_path / "model.safetensors"
        about = Model("step1", MODEL, LINEAR, None, CLASSES, "rejected")
        checkpoint.save(path, network("auxiliary"), about, {})
        with pytest.raises(InputError, match="do not fit what it says"):
            checkpoint.load_model(path, CPU)


def test_a_recipe_that_says_nothing_has_a_learned_background():
    section = plan("ft").method
    del section["base"]["background"]
    recipe = assembled("ft", {}).recipe
    assert recipe == type(recipe).of(section)


@pytest.mark.parametrize("changed", [STAR_LIKE, DKD_LIKE])
def test_steps_without_classes_need_the_background_s_output(changed):
    made = assembled("lwf_mc", changed | {"classifier_init": {"part": "none"}})
    with pytest.raises(InputError, match=r"`method\.base\.background` is .* set it to argmax"):
        check_without_new_classes(made)


@pytest.mark.parametrize("changed", [STAR_LIKE, DKD_LIKE])
def test_recipes_of_both_kinds_make_sense(changed):
    check_recipe(assembled("lwf_mc", changed))
