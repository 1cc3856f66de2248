import numpy as np
import pytest
import torch
from PIL import Image

from cssegcore.core.normalization import IMAGENET
from cssegcore.data.augmentation import Augmentation, CropRule, Crops
from cssegcore.data.augmentation.random_resized_crop import RandomResizedCrop
from cssegcore.data.augmentation.scale_and_crop import ScaleAndCrop
from cssegcore.data.batches import Replayed, evaluation_batches, training_batches
from cssegcore.data.image_store import ImageStore
from tests.helpers.greys import a_list, bytes_of, which
from tests.helpers.tiny_training import CPU, Lists

AUGMENTATIONS = RandomResizedCrop(size=16, area=(0.3, 0.8), flip=0.5)


def epoch(images, crop, batch_size, seed, replayed=None):
    """The batches of an epoch of crops."""
    rng = np.random.default_rng(seed)
    return training_batches(images, Augmentation(crop), batch_size, rng, CPU, IMAGENET, replayed)


def places(name, annotated):
    """Labels that tell where a pixel was, annotations that follow from them; t3 has one map."""
    made = np.arange(annotated.size, dtype=np.uint16).reshape(annotated.shape) % 251
    labels = made.astype(np.uint8)
    return labels, labels if name == "t3" else followed(labels)


def followed(labels):
    """Maps 0..250 one to one, and void to void."""
    return np.where(labels == 255, 255, (labels.astype(int) * 7 + 3) % 251).astype(np.uint8)


def test_labels_and_annotations_are_cut_and_mirrored_alike(greys):
    revised = ImageStore(greys, a_list(8), places)
    seen = 0
    for batch in epoch(revised, AUGMENTATIONS, 4, 2):
        for place, labels, annotated in zip(
            which(batch), batch.labels.numpy(), batch.annotated.numpy(), strict=True
        ):
            expected = labels if place == 3 else followed(labels)
            assert np.array_equal(annotated, expected)
            assert len(np.unique(labels)) > 20
            seen += 1
    assert seen == 8


def test_what_is_not_revised_is_labelled_as_annotated(images):
    for batch in epoch(images(8), AUGMENTATIONS, 4, 2):
        assert torch.equal(batch.labels, batch.annotated)


def test_whole_images_carry_both(greys):
    for names, batch in evaluation_batches(ImageStore(greys, a_list(4), places), 4, CPU, IMAGENET):
        for name, labels, annotated in zip(names, batch.labels, batch.annotated, strict=True):
            expected = [torch.from_numpy(m).long() for m in places(name, np.zeros((24, 24)))]
            assert torch.equal(labels, expected[0])
            assert torch.equal(annotated, expected[1])


def test_images_of_other_sizes_are_padded_without_trace(greys):
    for name, size in {"t0": (10, 30), "t1": (30, 10), "t2": (24, 24)}.items():
        Image.new("RGB", size, (200, 200, 200)).save(greys.photograph_path(name))
        Image.new("L", size, 3).save(greys.label_path(name))
    views = RandomResizedCrop(size=16, area=(0.5, 1.0))
    for seed in range(5):
        image_list = ImageStore(greys, a_list(3))
        (batch,) = epoch(image_list, views, 3, seed)
        assert (batch.labels == 3).all()
        assert np.abs(bytes_of(batch.images[0]) - 200).max() < 2


@pytest.fixture(scope="module")
def lists(tmp_path_factory):
    return Lists.write(tmp_path_factory.mktemp("tiny"))


def test_all_maps_get_it_and_each_image_has_its_own(lists):
    def revise(_, annotated):
        made = (np.arange(annotated.size) % 200 + 20).astype(np.uint8).reshape(24, 24)
        return made, made // 2

    own = ImageStore(lists.dataset, lists.of("step0"), revise, 5)
    others = Replayed(ImageStore(lists.dataset, lists.of("step0"), revise, 7), 0.5)
    rule = ScaleAndCrop(size=40, scale=(0.7, 1.4))
    fills = set()
    for batch in epoch(own, rule, 2, 4, others):
        assert len(batch.labels) == 2
        for labels, annotated in zip(batch.labels.numpy(), batch.annotated.numpy(), strict=True):
            outside = (labels == 5) | (labels == 7)
            assert len(np.unique(labels[outside])) == 1
            assert np.array_equal(annotated, np.where(outside, labels, labels // 2))
            assert (~outside).sum() > 100
            fills |= set(labels[outside].tolist())
    assert fills == {5, 7}


def test_a_rule_that_does_not_pad_ignores_what_it_adds(lists):
    class Around(CropRule):
        size = 40

        def draw(self, sizes, rng):
            boxes = np.tile([[-8.0, -8, 40, 40]], (len(sizes), 1))
            return Crops(boxes, np.zeros(len(sizes), bool))

    images = ImageStore(lists.dataset, lists.of("step0"), None, 5)
    batch = next(epoch(images, Around(), 2, 1))
    assert (batch.labels[:, :8] == 255).all()
    assert (batch.labels != 5).all()
