import numpy as np
import pytest
import torch
from PIL import Image

from cssegcore.core.normalization import IMAGENET, Normalization
from cssegcore.data.augmentation import Augmentation
from cssegcore.data.augmentation.random_resized_crop import RandomResizedCrop
from cssegcore.data.batches import (
    Replayed,
    evaluation_batches,
    iterations,
    smallest_batch,
    training_batches,
)
from cssegcore.data.image_store import ImageStore
from cssegcore.runtime.distributed import ALONE, World
from tests.helpers.greys import a_list, bytes_of, which
from tests.helpers.tiny_training import CPU

WHOLE = Augmentation(RandomResizedCrop(size=24, area=(1.0, 1.0), aspect=(1.0, 1.0), flip=0.0))
AUGMENTATIONS = Augmentation(RandomResizedCrop(size=16, area=(0.3, 0.8), flip=0.5))


def epoch(images, batch_size, seed, replayed=None, views=WHOLE, world=ALONE):
    """The batches of an epoch."""
    rng = np.random.default_rng(seed)
    return training_batches(images, views, batch_size, rng, CPU, IMAGENET, replayed, world)


@pytest.fixture
def earlier(greys):
    """Photographs t0 to t4, labelled 200 to be known again."""
    return ImageStore(greys, a_list(5), lambda _, annotated: (np.full_like(annotated, 200),) * 2)


def test_an_epoch_visits_every_image_once_in_an_order_of_its_own(images):
    orders = []
    for seed in (1, 1, 2):
        batches = list(epoch(images(8), 2, seed))
        assert [len(batch.images) for batch in batches] == [2, 2, 2, 2]
        orders.append([place for batch in batches for place in which(batch)])
        for batch in batches:
            for place, labels in zip(which(batch), batch.labels, strict=True):
                assert labels[3, 3] == (3 if place % 4 == 2 else 0)
    assert [sorted(order) for order in orders] == [list(range(8))] * 3
    assert orders[0] == orders[1] != orders[2]
    assert orders[0] != list(range(8))


@pytest.mark.parametrize(
    ("count", "batch_size", "lengths"),
    [(8, 3, [3, 3]), (8, 8, [8]), (5, 4, [4]), (3, 4, [3]), (1, 2, [1])],
)
def test_an_incomplete_batch_is_left_out_unless_it_is_all_there_is(
    images, count, batch_size, lengths
):
    image_list = images(count)
    batches = list(epoch(image_list, batch_size, 1))
    assert [len(batch.labels) for batch in batches] == lengths
    assert iterations(image_list, batch_size) == len(lengths)


class TestReplay:
    def epochs(self, image_list, replayed, batch_size, seed):
        batches = epoch(image_list, batch_size, seed, replayed)
        return [(which(b), (b.labels[:, 5, 5] == 200).tolist()) for b in batches]

    def drawn(self, found):
        """Lists the replayed images in the order of their places."""
        pairs = [pair for shown, told in found for pair in zip(shown, told, strict=True)]
        return [name for name, other in pairs if other]

    @pytest.mark.parametrize(
        ("batch_size", "share", "taken"),
        [(4, 0.5, 2), (4, 0.25, 1), (4, 0.2, 1), (2, 0.75, 1), (8, 0.99, 7), (1, 0.5, 0)],
    )
    def test_a_share_of_every_batch_is_replaced(self, images, earlier, batch_size, share, taken):
        image_list = images(8)
        plain = self.epochs(image_list, None, batch_size, 1)
        mixed = self.epochs(image_list, Replayed(earlier, share), batch_size, 1)
        assert len(mixed) == len(plain) == 8 // batch_size == iterations(image_list, batch_size)
        for (kept, none), (shown, replaced) in zip(plain, mixed, strict=True):
            assert not any(none)
            assert sum(replaced) == taken
            for now, before, other in zip(shown, kept, replaced, strict=True):
                assert other or now == before  # what stays, stays in its place

    def test_a_short_list_does_not_leave_the_memory_out(self, images, earlier):
        (found,) = self.epochs(images(3), Replayed(earlier, 0.25), 8, 1)
        assert sum(found[1]) == 1

    def test_any_place_may_be_replaced(self, images, earlier):
        image_list, replayed = images(8), Replayed(earlier, 0.25)
        found = [self.epochs(image_list, replayed, 4, seed) for seed in range(20)]
        hit = {replaced.index(True) for epoch in found for _, replaced in epoch}
        assert hit == {0, 1, 2, 3}

    def test_all_come_once_before_any_comes_twice(self, images, earlier):
        for seed in range(5):
            drawn = self.drawn(self.epochs(images(8), Replayed(earlier, 0.5), 2, seed))
            assert len(drawn) == 4
            assert len(set(drawn)) == 4
        drawn = self.drawn(self.epochs(images(8), Replayed(earlier, 0.9), 8, 1))
        assert len(drawn) == 7
        assert set(drawn) == set(range(5))

    def test_the_generator_alone_decides(self, images, earlier):
        one, again, other = (
            self.epochs(images(8), Replayed(earlier, 0.5), 4, seed) for seed in (1, 1, 2)
        )
        assert one == again != other

    def test_without_it_the_order_is_the_generator_s_first_draw(self, images):
        order = np.random.default_rng(3).permutation(8).tolist()
        found = self.epochs(images(8), None, 2, 3)
        assert [n for shown, _ in found for n in shown] == order
        with_replay_of_none = self.epochs(images(8), Replayed(images(2), 0.0), 2, 3)
        assert [n for shown, _ in with_replay_of_none for n in shown] == order


class TestConcatenated:
    def test_every_image_of_both_lists_comes_once(self, images, earlier):
        image_list, replayed = images(7), Replayed(earlier, 0.0, concatenated=True)
        batches = list(epoch(image_list, 4, 1, replayed))
        assert [len(batch.images) for batch in batches] == [4, 4, 4]
        assert iterations(image_list, 4, replayed) == len(batches)
        assert smallest_batch(image_list, 16, replayed) == 12
        pairs = [
            (place, bool(labels[5, 5] == 200))
            for batch in batches
            for place, labels in zip(which(batch), batch.labels, strict=True)
        ]
        assert sorted(pairs) == sorted([*((n, False) for n in range(7)), *ours(5)])
        assert pairs != sorted(pairs)
        assert all(batch.replayed is None for batch in batches)


def ours(count):
    return [(n, True) for n in range(count)]


class TestReplayApart:
    def epoch(self, image_list, earlier, share, batch_size=4, seed=1, views=WHOLE):
        replayed = Replayed(earlier, share, separate_batches=True)
        return list(epoch(image_list, batch_size, seed, replayed, views))

    @pytest.mark.parametrize(
        ("batch_size", "share", "beside"),
        [(4, 0.5, 4), (4, 0.2, 1), (4, 0.01, 1), (2, 0.75, 6), (8, 0.484, 8), (3, 0.4, 2)],
    )
    def test_the_step_s_batches_stay_whole(self, images, earlier, batch_size, share, beside):
        image_list = images(8)
        order = np.random.default_rng(1).permutation(8).tolist()
        found = self.epoch(image_list, earlier, share, batch_size)
        assert len(found) == iterations(image_list, batch_size)
        shown = [place for batch in found for place in which(batch)]
        assert shown == order[: len(shown)]
        for batch in found:
            assert (batch.labels != 200).all()
            assert len(batch.images) == batch_size
            assert len(batch.replayed.images) == len(batch.replayed.labels) == beside
            assert (batch.replayed.labels == 200).all()
            assert (batch.replayed.annotated == 200).all()
            assert batch.replayed.replayed is None

    def test_a_list_shorter_than_a_batch_sets_how_many_are_beside(self, images, earlier):
        (batch,) = self.epoch(images(2), earlier, 0.5, 8)
        assert (len(batch.images), len(batch.replayed.images)) == (2, 2)

    def test_all_come_once_before_any_comes_twice(self, images, earlier):
        for seed in range(5):
            found = self.epoch(images(8), earlier, 0.5, 2, seed)
            drawn = [place for batch in found for place in which(batch.replayed)]
            assert len(drawn) == 8
            assert sorted(drawn[:5]) == list(range(5))
            assert len(set(drawn[5:])) == 3

    def test_views_are_drawn_for_each(self, images, earlier):
        batch, *_ = self.epoch(images(8), earlier, 0.8, 2, views=AUGMENTATIONS)
        assert batch.images.shape[2:] == batch.replayed.images.shape[2:] == (16, 16)
        assert batch.replayed.images.shape[0] == 8

    def test_the_generator_alone_decides(self, images, earlier):
        one, again, other = (
            [b.replayed.images for b in self.epoch(images(8), earlier, 0.5, 4, s, AUGMENTATIONS)]
            for s in (1, 1, 2)
        )
        assert all(torch.equal(a, b) for a, b in zip(one, again, strict=True))
        assert not all(torch.equal(a, b) for a, b in zip(one, other, strict=True))

    def test_in_the_batch_nothing_is_beside(self, images, earlier):
        replayed = Replayed(earlier, 0.5)
        assert replayed.replay_batch_size(8) == 0
        assert all(b.replayed is None for b in epoch(images(8), 4, 1, replayed))


def test_whole_photographs_come_in_order_and_in_batches_of_one_size(greys):
    for name in ("t3", "t4"):
        Image.new("RGB", (20, 10)).save(greys.photograph_path(name))
        Image.new("L", (20, 10), 3).save(greys.label_path(name))
    image_list = ImageStore(greys, a_list(8))
    batches = list(evaluation_batches(image_list, 2, CPU, IMAGENET))
    assert [names for names, _ in batches] == [
        ["t0", "t1"],
        ["t2"],
        ["t3", "t4"],
        ["t5", "t6"],
        ["t7"],
    ]
    decoded = {name: (photograph, labels) for name, photograph, labels in image_list.decoded()}
    for names, batch in batches:
        for name, image, labels in zip(names, batch.images, batch.labels, strict=True):
            photograph, expected = decoded[name]
            assert np.array_equal(labels.numpy(), expected)
            assert np.abs(bytes_of(image) - photograph).max() < 1e-3


def test_processes_share_the_images_of_a_test(images):
    image_list = images(7)
    shares = [
        [
            name
            for names, _ in evaluation_batches(image_list, 2, CPU, IMAGENET, World(rank, 3))
            for name in names
        ]
        for rank in range(3)
    ]
    assert shares == [["t0", "t1", "t6"], ["t2", "t3"], ["t4", "t5"]]  # whole batches each


def test_a_process_reads_its_share_of_a_batch_alone(images, monkeypatch):
    whole = [which(batch) for batch in epoch(images(8), 5, 1)]
    shares = []
    for rank in range(2):
        image_list, read = images(8), []
        take = image_list.sample
        monkeypatch.setattr(image_list, "sample", lambda at, t=take, r=read: r.append(at) or t(at))
        shares.append([which(batch) for batch in epoch(image_list, 5, 1, world=World(rank, 2))])
        assert sorted(read) == sorted(place for batch in shares[-1] for place in batch)
    assert [one + other for one, other in zip(*shares, strict=True)] == whole


@pytest.mark.parametrize(
    ("count", "batch_size", "share", "apart", "least"),
    [(8, 4, 0.5, False, 4), (3, 4, 0.5, False, 3), (8, 4, 0.2, True, 1), (8, 2, 0.75, True, 2)],
)
def test_the_shortest_batch_is_told_before(images, earlier, count, batch_size, share, apart, least):
    image_list, replayed = images(count), Replayed(earlier, share, apart)
    lengths = [
        len(one.images)
        for batch in epoch(image_list, batch_size, 1, replayed)
        for one in (batch, batch.replayed)
        if one is not None
    ]
    assert smallest_batch(image_list, batch_size, replayed) == min(lengths) == least
    assert smallest_batch(image_list, batch_size, None) == min(count, batch_size)


def test_batches_are_normalised_as_the_network_asks(images):
    other = Normalization((0.1, 0.2, 0.3), (0.5, 0.6, 0.7))
    image_list = images(4)
    one, two = (
        next(
            training_batches(
                image_list, AUGMENTATIONS, 4, np.random.default_rng(1), CPU, normalization
            )
        )
        for normalization in (IMAGENET, other)
    )
    pairs = [(one.images, two.images)]
    pairs += [
        (batch.images, next(evaluation_batches(image_list, 4, CPU, other))[1].images)
        for _, batch in evaluation_batches(image_list, 4, CPU, IMAGENET)
    ]
    for usual, changed in pairs:
        for colour in range(3):
            values = usual[:, colour] * IMAGENET.std[colour] + IMAGENET.mean[colour]
            expected = (values - other.mean[colour]) / other.std[colour]
            assert torch.allclose(changed[:, colour], expected, atol=1e-5)
