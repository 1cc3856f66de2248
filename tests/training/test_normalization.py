"""A network gets photographs as it asks for them, through every door."""

import numpy as np
import pytest
import torch
from PIL import Image

from cssegcore.core.normalization import IMAGENET, Normalization
from cssegcore.data.image_store import ImageStore
from cssegcore.evaluation import evaluate
from cssegcore.evaluation.predict import Labelling, label_photographs
from cssegcore.inversion import quality
from cssegcore.inversion.invert import invert
from cssegcore.inversion.label_maps import InversionTargets
from cssegcore.inversion.settings import InversionSettings, InversionWeights
from tests.helpers.greys import a_list, grey_dataset
from tests.helpers.tiny_training import CPU, Lists, new_segmenter, plan, run, whole

OTHER = Normalization((0.1, 0.2, 0.3), (0.5, 0.25, 0.75))


@pytest.fixture(params=[IMAGENET, OTHER], ids=["usual", "other"])
def normalization(request):
    return request.param


def watched(segmenter, normalization):
    """Has a network ask for a normalisation; what it is fed with, back in values of 0 to 255."""
    seen = []
    numbers = (normalization.mean, normalization.std)
    mean, std = (torch.tensor(v)[:, None, None] for v in numbers)

    def see(_, inputs):
        seen.append((inputs[0].detach() * std + mean) * 255)

    segmenter.extractor.backbone.normalization = normalization
    segmenter.register_forward_pre_hook(see)
    return seen


def photographs(store):
    return np.stack([photograph for _, photograph, _ in store.decoded()]).transpose(0, 3, 1, 2)


def test_in_training(tmp_path, normalization):
    lists = Lists.write(tmp_path)
    whole_view = {"part": "scale_and_crop", "size": 24, "scale": [1, 1], "flip": 0}
    trainer = lists.prepare(plan(epochs=1, augmentation=whole_view), "step0")
    seen = watched(trainer.segmenter, normalization)
    run(trainer, tmp_path / "r")
    given = photographs(trainer.data.images).astype(np.float32)
    for view in torch.cat(seen).numpy():
        assert np.abs(given - view).max((1, 2, 3)).min() < 1e-3
    assert len(seen) > 1


def test_in_tests_and_predictions(dataset_root, tmp_path, normalization):
    dataset, segmenter = grey_dataset(dataset_root), new_segmenter([3])
    seen = watched(segmenter, normalization)
    store = ImageStore(dataset, a_list(3))
    evaluate.count_confusion(segmenter, store, 4, 3, CPU, whole, set())
    assert np.abs(seen[0].numpy() - photographs(store)).max() < 1e-3
    path = tmp_path / "photograph.png"
    Image.fromarray(photographs(store)[1].transpose(1, 2, 0)).save(path)
    label_photographs(segmenter, [path], tmp_path / "out", Labelling(0.5), CPU, whole)
    assert np.abs(seen[1][0].numpy() - photographs(store)[1]).max() < 1e-3


def test_in_inversion(normalization):
    segmenter = new_segmenter([3]).eval()
    seen = watched(segmenter, normalization)
    images = np.random.default_rng(1).integers(0, 256, (2, 16, 16, 3), np.uint8)
    quality.predict_mirrored(segmenter, images)
    assert np.abs(seen[0].numpy() - images.transpose(0, 3, 1, 2)).max() < 1e-3
    wanted = InversionTargets(np.array([1, 2]), np.ones((2, 16, 16), np.uint8))
    quick = {"phases": ((1, 2),), "border": 0, "jitter": 0.0, "flip": 0.0, "lr": 100.0}
    settings = InversionSettings(**quick, weights=InversionWeights(features=0.0))
    made = invert(segmenter, None, wanted, settings, np.random.default_rng(1), whole)
    # far steps end at black or at white, and the second is computed from those
    assert seen[-1].min() > -0.01
    assert seen[-1].max() < 255.01
    assert {0, 255} <= set(made.images.ravel().tolist())
