import json

import numpy as np
import pytest
from PIL import Image

from cssegcore.core.errors import InputError
from cssegcore.core.files import write_json
from cssegcore.core.palette import save_labels
from cssegcore.method.method import Method, Recipe
from cssegcore.training.labels import label_rule
from tests.helpers.tiny_training import method_section

VOID = 255
RNG = np.random.default_rng(0)
ANNOTATED = RNG.choice([0, 0, 0, 1, 3, VOID], (24, 24)).astype(np.uint8)
GUESSED = np.where(ANNOTATED == 0, RNG.choice([0, 1, 2, VOID], (24, 24)), ANNOTATED).astype(
    np.uint8
)
SALIENT = RNG.random((24, 24)) < 0.5


@pytest.fixture
def folders(tmp_path):
    """Pseudo-labels of t0 in both lists and of t2 in one, saliency maps of t0 and t1."""
    labels, maps = tmp_path / "guessed", tmp_path / "saliency"
    write_json(labels / "manifest.json", {"images": {"train": ["t0"], "memory": ["t0", "t2"]}})
    for kind in ("train", "memory"):
        (labels / kind).mkdir()
        for name in ("t0", "t2") if kind == "memory" else ("t0",):
            save_labels(labels / kind / f"{name}.png", GUESSED)
    manifest = {"source": "computed", "images": ["t0", "t1"], "salient": 0.5}
    write_json(maps / "manifest.json", manifest)
    for name in ("t0", "t1"):
        Image.fromarray(SALIENT.astype(np.uint8) * 255).save(maps / f"{name}.png")
    return {"pseudo_labels": labels, "saliency": maps}


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


class TestLabelRule:
    def test_nothing_changes_what_is_annotated(self, lists, tmp_path):
        write_json(tmp_path / "manifest.json", {"images": {}})
        for given in ({}, {"pseudo_labels": tmp_path}):
            assert label_rule(lists.dataset, method(), "train", **given) is None

    def test_a_label_image_is_read_instead_of_the_annotation(self, lists, folders):
        make_labels = label_rule(lists.dataset, method(), "train", **folders)
        labels, annotated = make_labels("t0", ANNOTATED)
        assert np.array_equal(labels, GUESSED)
        assert np.array_equal(annotated, ANNOTATED)
        assert not np.array_equal(labels, annotated)

    def test_an_image_without_one_is_labelled_as_annotated(self, lists, folders):
        labels, annotated = label_rule(lists.dataset, method(), "train", **folders)("t1", ANNOTATED)
        assert np.array_equal(labels, ANNOTATED)
        assert np.array_equal(annotated, ANNOTATED)

    @pytest.mark.parametrize("unknown", ["everything", "salient"])
    def test_the_unknown_class_is_split_off_both(self, lists, folders, unknown):
        make_labels = label_rule(lists.dataset, method(unknown), "train", **folders)
        for name, guessed in (("t0", GUESSED), ("t1", ANNOTATED)):
            labels, annotated = make_labels(name, ANNOTATED)
            assert np.array_equal(labels, as_outputs(guessed, unknown))
            assert np.array_equal(annotated, as_outputs(ANNOTATED, unknown))

    def test_each_list_has_label_images_of_its_own(self, lists, folders):
        (folders["pseudo_labels"] / "memory" / "t0.png").unlink()
        save_labels(folders["pseudo_labels"] / "memory" / "t0.png", ANNOTATED)
        for kind, name, expected in (
            ("train", "t0", GUESSED),
            ("memory", "t0", ANNOTATED),
            ("train", "t2", ANNOTATED),
            ("memory", "t2", GUESSED),
        ):
            labels, _ = label_rule(lists.dataset, method(), kind, **folders)(name, ANNOTATED)
            assert np.array_equal(labels, expected)

    def test_exemplars_are_shifted_like_all_others(self, lists, folders):
        make_labels = label_rule(
            lists.dataset, method("salient", labels="shifted"), "memory", **folders
        )
        labels, annotated = make_labels("t0", ANNOTATED)
        assert np.array_equal(labels, as_outputs(GUESSED, "salient"))
        assert np.array_equal(annotated, as_outputs(ANNOTATED, "salient"))

    def test_exemplars_as_released_make_no_room_for_the_unknown_class(self, lists, folders):
        how = method("salient", labels="released")
        labels, annotated = label_rule(lists.dataset, how, "memory", **folders)("t0", ANNOTATED)
        expected = ANNOTATED.copy()
        for at in np.ndindex(expected.shape):
            if ANNOTATED[at] == 0 and GUESSED[at] in (1, 2):
                expected[at] = GUESSED[at] + 1
        assert np.array_equal(labels, expected)
        assert np.array_equal(annotated, ANNOTATED)
        # the step's own images are shifted all the same
        labels, _ = label_rule(lists.dataset, how, "train", **folders)("t0", ANNOTATED)
        assert np.array_equal(labels, as_outputs(GUESSED, "salient"))

    def test_a_label_image_of_another_size_is_named(self, lists, folders):
        save_labels(folders["pseudo_labels"] / "train" / "t0.png", GUESSED[:20])
        make_labels = label_rule(lists.dataset, method(), "train", **folders)
        with pytest.raises(InputError, match=r"t0\.png has the shape \(20, 24\).*`dvc repro`"):
            make_labels("t0", ANNOTATED)

    def test_a_label_image_that_is_not_there_is_named(self, lists, folders):
        (folders["pseudo_labels"] / "train" / "t0.png").unlink()
        make_labels = label_rule(lists.dataset, method(), "train", **folders)
        with pytest.raises(InputError, match=r"t0\.png does not exist"):
            make_labels("t0", ANNOTATED)

    def test_saliency_that_is_not_there_is_named(self, lists):
        with pytest.raises(InputError, match="needs saliency maps: run `dvc repro saliency`"):
            label_rule(lists.dataset, method("salient"), "train")
