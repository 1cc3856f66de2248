import dataclasses
import weakref

import numpy as np
import pytest
import torch

from cssegcore.core.errors import InputError
from cssegcore.core.normalization import IMAGENET
from cssegcore.data.augmentation import Augmentation
from cssegcore.data.augmentation.random_resized_crop import RandomResizedCrop
from cssegcore.data.batches import Replayed, evaluation_batches, training_batches, training_bytes
from cssegcore.data.dataset import Dataset
from cssegcore.data.image_store import PIXEL_BYTES, ImageStore
from cssegcore.runtime.distributed import World
from cssegcore.runtime.memory import MemoryBudget
from tests.helpers.greys import a_list
from tests.helpers.tiny_training import CPU, Lists

IMAGE = 4 * 24 * 24
"""Bytes of one grey image with one map."""


def test_labels_are_mapped_when_they_are_read(images):
    for name, photograph, labels in images(8).decoded():
        place = int(name[1:])
        assert labels[0, 0] == 255
        assert (labels.ravel()[1:] == (3 if place % 4 == 2 else 0)).all()
        assert abs(int(photograph[5, 5, 0]) - 30 * place) <= 2


@pytest.fixture(scope="module")
def lists(tmp_path_factory):
    return Lists.write(tmp_path_factory.mktemp("tiny"))


def test_void_is_ignored_or_background(lists):
    image_list = lists.of("step0")
    read = {
        void: {
            name: labels
            for name, _, labels in ImageStore(
                lists.dataset, dataclasses.replace(image_list, void=void)
            ).decoded()
        }
        for void in ("ignore", "background")
    }
    for name in image_list.names:
        raw = lists.dataset.label(name)
        expected = np.where(np.isin(raw, [1, 2]), raw, 0)
        assert (raw == 255).any()
        assert np.array_equal(read["background"][name], expected)
        assert np.array_equal(read["ignore"][name], np.where(raw == 255, 255, expected))


@pytest.fixture
def opened(monkeypatch):
    """References to all photographs that are decoded, in the order of decoding."""
    seen, decode = [], Dataset.photograph

    def photograph(dataset, name):
        pixels = decode(dataset, name)
        seen.append(weakref.ref(pixels))
        return pixels

    monkeypatch.setattr(Dataset, "photograph", photograph)
    return seen


def alive(opened):
    return sum(reference() is not None for reference in opened)


class TestBudget:
    @pytest.mark.parametrize(("size", "kept"), [(0, 0), (3 * IMAGE + 1, 3), (8 * IMAGE, 8)])
    def test_as_many_stay_decoded_as_fit(self, images, opened, size, kept):
        image_list = images(8)
        image_list.keep(MemoryBudget(size))
        assert len(opened) == 8  # each is looked at
        assert alive(opened) == kept
        for place in range(8):
            assert image_list.sample(place).photograph.shape == (24, 24, 3)
        assert len(opened) == 8 + 8 - kept
        assert alive(opened) == kept

    def test_lists_share_one(self, images, opened):
        one, other, budget = images(8), images(8), MemoryBudget(10 * IMAGE)
        one.keep(budget)
        other.keep(budget)
        assert alive(opened) == 10

    def test_a_changed_file_is_told_when_images_are_looked_at(self, greys):
        image_list = dataclasses.replace(a_list(8), images=[[f"t{i}", "f" * 8] for i in range(8)])
        with pytest.raises(InputError, match=r"t0\.jpg .* is not what `index` read"):
            ImageStore(greys, image_list).keep(MemoryBudget(0))

    def test_processes_of_a_machine_look_at_each_image_once(self, images, opened, monkeypatch):
        monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
        for rank, count in enumerate((3, 3, 2)):
            monkeypatch.setenv("LOCAL_RANK", str(rank))
            opened.clear()
            image_list = images(8)
            image_list.keep(MemoryBudget(8 * IMAGE))
            assert len(opened) == count
            assert [image_list.sample(at).size for at in range(8)] == [(24, 24)] * 8
            assert (len(opened), alive(opened)) == (8, 8)  # those of others when they are needed


class TestStreams:
    def test_a_test_holds_no_list(self, images, opened, monkeypatch):
        monkeypatch.setattr("cssegcore.data.batches.decoding_threads", lambda: 1)
        image_list, most = images(8), 0
        for _ in evaluation_batches(image_list, 2, CPU, IMAGENET):
            most = max(most, alive(opened))
        assert len(opened) == 8
        assert most <= 2  # the next batch; the one in use is stacked already
        assert alive(opened) == 0

    def test_an_epoch_holds_the_next_batch_at_most(self, images, opened):
        image_list, most = images(8), 0
        rng, views = np.random.default_rng(1), Augmentation(RandomResizedCrop(size=16))
        for _ in training_batches(image_list, views, 2, rng, CPU, IMAGENET):
            most = max(most, alive(opened))
        assert len(opened) == 8
        assert 0 < most <= 2

    def test_a_reader_that_leaves_frees_all(self, images, opened):
        batches = evaluation_batches(images(8), 1, CPU, IMAGENET)
        next(batches)
        batches.close()
        assert alive(opened) == 0

    def test_labels_are_found_without_photographs(self, images, opened):
        assert images(8).labels_shown() == [{0, 255}, {0, 255}, {3, 255}, {0, 255}] * 2
        assert not opened


@pytest.mark.parametrize("how", ["alone", "in batches", "beside", "concatenated", "of two"])
def test_batches_are_the_same_bits_whatever_is_kept(lists, how):
    def revise(name, annotated):
        return np.where(annotated == 0, len(name), annotated).astype(np.uint8), annotated

    def epoch(size):
        own = ImageStore(lists.dataset, lists.of("step0"), revise)
        earlier = ImageStore(lists.dataset, lists.of("step1"))
        replayed = {
            "in batches": Replayed(earlier, 0.5),
            "beside": Replayed(earlier, 0.4, separate_batches=True, sources=np.arange(99)),
            "concatenated": Replayed(earlier, 0.0, concatenated=True),
        }.get(how)
        if size is not None:
            budget = MemoryBudget(size)
            own.keep(budget)
            earlier.keep(budget)
        rng, world = np.random.default_rng(5), World(1, 2) if how == "of two" else World()
        views = Augmentation(RandomResizedCrop(size=16, area=(0.3, 0.8), flip=0.5))
        batches = training_batches(own, views, 2, rng, CPU, IMAGENET, replayed, world)
        both = [each for batch in batches for each in (batch, batch.replayed) if each is not None]
        return [(one.images, one.labels, one.annotated, one.sources) for one in both]

    plain = epoch(10**9)
    assert len(plain) > 1
    for size in (None, 0, 4 * 5 * 24 * 24):
        for batch, other in zip(epoch(size), plain, strict=True):
            assert all(torch.equal(a, b) for a, b in zip(batch[:3], other[:3], strict=True))
            assert np.array_equal(batch[3], other[3])


def test_bytes_of_batches_are_told_before(images):
    image, own = PIXEL_BYTES * 24 * 24, images(8)
    assert training_bytes(own, 3, None) == 2 * 3 * image
    assert training_bytes(own, 30, None) == 2 * 8 * image
    assert training_bytes(own, 8, Replayed(images(3), 0.5)) == 2 * 8 * image
    assert training_bytes(own, 4, Replayed(images(3), 0.5, True)) == 2 * 7 * image
