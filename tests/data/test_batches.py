import math
import threading

import numpy as np
import pytest
import torch
from PIL import Image

from cssegcore.core.class_table import ClassTable
from cssegcore.data.prefetch import prefetch
from cssegcore.data.augmentation import Crops
from cssegcore.data.augmentation.random_resized_crop import RandomResizedCrop
from cssegcore.data.batches import Images, Replayed
from cssegcore.data.dataset import open_dataset
from cssegcore.data.image_list import ImageList
from cssegcore.data.crop_and_resize import MEAN, STD, crop_and_resize, normalise
from cssegcore.core.errors import InputError

torch.set_num_threads(1)

CPU = torch.device("cpu")
SIZES = np.array([[40, 60], [60, 40], [33, 33], [7, 90], [90, 7], [1, 1], [1, 50]])


def bytes_of(view):
    """Undoes the normalisation of one view: float bytes, shape (h, w, 3)."""
    return (view.numpy().transpose(1, 2, 0).astype(np.float64) * STD + MEAN) * 255


def sampled(photograph, labels, box, flip, size):
    """A view of one image, one target pixel at a time."""
    height, width = labels.shape
    top, left, tall, wide = box
    view, near = np.empty((size, size, 3)), np.empty((size, size), int)
    for row in range(size):
        for column in range(size):
            source = size - 1 - column if flip else column
            y = top + (row + 0.5) * tall / size  # continuous: pixel k covers k to k + 1
            x = left + (source + 0.5) * wide / size
            inside = 0 <= y < height and 0 <= x < width
            near[row, column] = labels[math.floor(y), math.floor(x)] if inside else 255
            # a bilinear weight falls from 1 at a pixel's centre to 0 at its neighbours' centres
            y, x = min(max(y - 0.5, 0), height - 1), min(max(x - 0.5, 0), width - 1)
            rows = np.maximum(0, 1 - np.abs(y - np.arange(height)))
            columns = np.maximum(0, 1 - np.abs(x - np.arange(width)))
            view[row, column] = np.einsum("i,j,ijc", rows, columns, photograph)
    return view, near


def stacked(rng, sizes):
    """Random images put into one block, and the block's padding filled with noise too."""
    tall, wide = np.max(sizes, 0)
    photographs = rng.integers(0, 256, (len(sizes), tall, wide, 3), np.uint8)
    labels = rng.integers(0, 6, (len(sizes), tall, wide), np.uint8)
    return photographs, labels


def test_views_are_those_of_a_pixel_by_pixel_reference():
    rng = np.random.default_rng(5)
    sizes = np.array([[9, 13], [13, 9], [5, 5], [13, 13], [9, 13], [4, 11], [13, 13]])
    photographs, labels = stacked(rng, sizes)
    boxes = np.array(
        [
            [2, 3, 5, 7],  # smaller than the view: magnified
            [0, 0, 13, 9],  # all of it, reduced in one direction
            [-2, -3, 9, 11],  # leaves the image on all sides
            [0.5, 1.25, 11, 11],  # between pixels
            [4, 8, 5, 5],  # up to the corner
            [-6, 9, 8, 30],  # hardly touches it
            [-2, -2, 16, 16],  # target centres fall on borders of pixels: the right one is meant
        ],
        np.float64,
    )
    flips = np.array([False, True, False, True, True, False, False])
    views, maps = crop_and_resize(
        torch.from_numpy(photographs),
        torch.from_numpy(np.stack([labels, 5 - labels], -1)),
        torch.from_numpy(sizes),
        Crops(boxes, flips),
        8,
    )
    near, other = maps
    assert torch.equal(other, torch.where(near == 255, 255, 5 - near))
    for at, (h, w) in enumerate(sizes):
        inside = photographs[at, :h, :w], labels[at, :h, :w]
        view, classes = sampled(*inside, boxes[at], flips[at], 8)
        assert np.array_equal(near[at].numpy(), classes)
        assert np.abs(bytes_of(views[at]) - view).max() < 1e-3
    assert (near[2] == 255).any()
    assert (near[2] != 255).any()
    assert near.dtype == torch.int64


@pytest.mark.parametrize("flip", [False, True])
def test_the_whole_image_at_its_own_size_is_the_image(flip):
    photographs, labels = stacked(np.random.default_rng(6), [(12, 12)])
    views = Crops(np.array([[0.0, 0, 12, 12]]), np.array([flip]))
    sizes = torch.tensor([[12, 12]])
    maps = torch.from_numpy(labels[..., None])
    view, (near,) = crop_and_resize(torch.from_numpy(photographs), maps, sizes, views, 12)
    expected = normalise(torch.from_numpy(photographs))
    assert torch.equal(view, expected.flip(3) if flip else expected)
    assert np.array_equal(near.numpy(), labels[:, :, ::-1] if flip else labels)


def test_network_input_is_normalised_as_imagenet():
    grey = normalise(torch.full((1, 1, 2, 3), 128, dtype=torch.uint8))
    expected = [(128 / 255 - m) / s for m, s in ((0.485, 0.229), (0.456, 0.224), (0.406, 0.225))]
    assert grey.shape == (1, 3, 1, 2)
    assert torch.allclose(grey[0, :, 0, 1], torch.tensor(expected))


def test_crops_stay_inside_and_keep_to_their_bounds():
    views = RandomResizedCrop(size=8, area=(0.3, 0.9), aspect=(0.5, 2.0))
    sizes = np.repeat([[40, 60], [60, 60], [61, 47]], 300, axis=0)
    boxes = views.draw(sizes, np.random.default_rng(1)).boxes
    top, left, tall, wide = boxes.T
    assert (top >= 0).all()
    assert (left >= 0).all()
    assert (top + tall <= sizes[:, 0]).all()
    assert (left + wide <= sizes[:, 1]).all()
    # each side is rounded by half a pixel at most
    share = tall * wide / sizes.prod(1)
    assert share.min() > 0.3 - 0.02
    assert share.max() < 0.9 + 0.02
    assert 0.33 < np.median(share) < 0.7
    assert (wide / tall > 0.5 - 0.03).all()
    assert (wide / tall < 2 + 0.09).all()
    assert np.abs(np.log(wide / tall)).max() > 0.5
    assert boxes.dtype == np.float64
    assert len(np.unique(boxes, axis=0)) > 500
    assert top.max() > 10  # every place is drawn
    assert left.max() > 10


def test_an_image_in_which_nothing_fits_is_cut_in_the_middle():
    views = RandomResizedCrop(size=8, area=(1.0, 1.0), aspect=(2.0, 3.0))
    boxes = views.draw(SIZES, np.random.default_rng(1)).boxes
    assert boxes.tolist() == [
        [5, 0, 30, 60],  # 60 wide at aspect 2
        [20, 0, 20, 40],
        [8, 0, 16, 33],
        [0, 34, 7, 21],  # too wide: 21 by 7 at aspect 3
        [43, 0, 4, 7],
        [0, 0, 1, 1],  # one pixel has no aspect
        [0, 23, 1, 3],
    ]


def test_views_depend_on_the_generator_alone():
    views = RandomResizedCrop(size=8)
    first, again, other = (views.draw(SIZES, np.random.default_rng(s)) for s in (1, 1, 2))
    assert np.array_equal(first.boxes, again.boxes)
    assert np.array_equal(first.flips, again.flips)
    assert not np.array_equal(first.boxes, other.boxes)


@pytest.mark.parametrize(("flip", "share"), [(0.0, 0), (1.0, 1), (0.5, 0.5)])
def test_as_many_views_are_mirrored_as_asked_for(flip, share):
    sizes = np.full((2000, 2), 10)
    flips = RandomResizedCrop(size=8, flip=flip).draw(sizes, np.random.default_rng(1)).flips
    assert abs(flips.mean() - share) < (0.05 if 0 < share < 1 else 1e-9)


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        ({"size": 0}, r"`size` must be >= 1 pixel, got 0"),
        ({"area": (0.0, 1.0)}, r"`area` must be 0 < low <= high, got 0\.0, 1\.0"),
        ({"area": (1.5, 2.0)}, r"`area` starts at 1\.5: no such box fits"),
        ({"aspect": (2.0, 1.0)}, r"`aspect` must be 0 < low <= high, got 2\.0, 1\.0"),
        ({"flip": -0.1}, r"`flip` must lie in \[0, 1\], got -0\.1"),
    ],
)
def test_senseless_numbers_are_refused(numbers, words):
    with pytest.raises(ValueError, match=words):
        RandomResizedCrop(**numbers)


WHOLE = RandomResizedCrop(size=24, area=(1.0, 1.0), aspect=(1.0, 1.0), flip=0.0)


@pytest.fixture
def images(dataset_root):
    """The eight training photographs in memory; the label of each is the class of its name."""
    dataset = open_dataset({"name": "tiny", "root": str(dataset_root), "layout": {"part": "voc"}})
    for i in range(8):
        raw = np.full((24, 24), i % 4 + 1, np.uint8)
        raw[0, 0] = 255
        Image.fromarray(raw).save(dataset.label_path(f"t{i}"))
        Image.new("RGB", (24, 24), (30 * i,) * 3).save(dataset.photograph_path(f"t{i}"), quality=95)
    return lambda count: Images(dataset, a_list(count))


def a_list(count):
    classes = ClassTable.of([["background", "red", "green"], ["blue"]], [[0, 1, 2], [3]])
    return ImageList("step1", 1, classes, [3], [[f"t{i}", ""] for i in range(count)])


def which(batch):
    """Tells the images of a batch by their grey: 30 times their number."""
    return [round(bytes_of(view)[5, 5, 0] / 30) for view in batch.images]


def test_labels_are_mapped_when_they_are_read(images):
    for name, photograph, labels in images(8).decoded():
        place = int(name[1:])
        assert labels[0, 0] == 255
        assert (labels.ravel()[1:] == (3 if place % 4 == 2 else 0)).all()
        assert abs(int(photograph[5, 5, 0]) - 30 * place) <= 2


def test_an_epoch_visits_every_image_once_in_an_order_of_its_own(images):
    orders = []
    for seed in (1, 1, 2):
        batches = list(images(8).epoch(WHOLE, 2, np.random.default_rng(seed), CPU))
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
    batches = list(image_list.epoch(WHOLE, batch_size, np.random.default_rng(1), CPU))
    assert [len(batch.labels) for batch in batches] == lengths
    assert image_list.iterations(batch_size) == len(lengths)


AUGMENTATIONS = RandomResizedCrop(size=16, area=(0.3, 0.8), flip=0.5)


def places(name, annotated):
    """Labels that tell where a pixel was, annotations that follow from them; t3 has one map."""
    made = np.arange(annotated.size, dtype=np.uint16).reshape(annotated.shape) % 251
    labels = made.astype(np.uint8)
    return labels, labels if name == "t3" else followed(labels)


def followed(labels):
    """Maps 0..250 one to one, and void to void."""
    return np.where(labels == 255, 255, (labels.astype(int) * 7 + 3) % 251).astype(np.uint8)


def test_labels_and_annotations_are_cut_and_mirrored_alike(images, dataset_root):
    dataset = open_dataset({"name": "tiny", "root": str(dataset_root), "layout": {"part": "voc"}})
    revised = Images(dataset, a_list(8), places)
    seen = 0
    for batch in revised.epoch(AUGMENTATIONS, 4, np.random.default_rng(2), CPU):
        for place, labels, annotated in zip(
            which(batch), batch.labels.numpy(), batch.annotated.numpy(), strict=True
        ):
            expected = labels if place == 3 else followed(labels)
            assert np.array_equal(annotated, expected)
            assert len(np.unique(labels)) > 20
            seen += 1
    assert seen == 8


def test_what_is_not_revised_is_labelled_as_annotated(images):
    for batch in images(8).epoch(AUGMENTATIONS, 4, np.random.default_rng(2), CPU):
        assert torch.equal(batch.labels, batch.annotated)


def test_whole_images_carry_both(images, dataset_root):
    dataset = open_dataset({"name": "tiny", "root": str(dataset_root), "layout": {"part": "voc"}})
    for names, batch in Images(dataset, a_list(4), places).whole(4, CPU):
        for name, labels, annotated in zip(names, batch.labels, batch.annotated, strict=True):
            expected = [torch.from_numpy(m).long() for m in places(name, np.zeros((24, 24)))]
            assert torch.equal(labels, expected[0])
            assert torch.equal(annotated, expected[1])


class TestReplay:
    @pytest.fixture
    def earlier(self, images, dataset_root):
        """Photographs t0 to t4, brightened and labelled 200 to be known again."""
        dataset = open_dataset(
            {"name": "tiny", "root": str(dataset_root), "layout": {"part": "voc"}}
        )
        return Images(dataset, a_list(5), lambda _, annotated: (np.full_like(annotated, 200),) * 2)

    def epochs(self, image_list, replayed, batch_size, seed):
        batches = image_list.epoch(WHOLE, batch_size, np.random.default_rng(seed), CPU, replayed)
        return [(which(b), (b.labels[:, 5, 5] == 200).tolist()) for b in batches]

    def drawn(self, epoch):
        """Lists the replayed images in the order of their places."""
        pairs = [pair for shown, told in epoch for pair in zip(shown, told, strict=True)]
        return [name for name, other in pairs if other]

    @pytest.mark.parametrize(
        ("batch_size", "share", "taken"),
        [(4, 0.5, 2), (4, 0.25, 1), (4, 0.2, 0), (2, 0.75, 1), (8, 0.99, 7)],
    )
    def test_a_share_of_every_batch_is_replaced(self, images, earlier, batch_size, share, taken):
        image_list = images(8)
        plain = self.epochs(image_list, None, batch_size, 1)
        mixed = self.epochs(image_list, Replayed(earlier, share), batch_size, 1)
        assert len(mixed) == len(plain) == 8 // batch_size == image_list.iterations(batch_size)
        for (kept, none), (shown, replaced) in zip(plain, mixed, strict=True):
            assert not any(none)
            assert sum(replaced) == taken
            for now, before, other in zip(shown, kept, replaced, strict=True):
                assert other or now == before  # what stays, stays in its place

    def test_any_place_may_be_replaced(self, images, earlier):
        image_list, replayed = images(8), Replayed(earlier, 0.25)
        found = [self.epochs(image_list, replayed, 4, seed) for seed in range(20)]
        hit = {replaced.index(True) for epoch in found for _, replaced in epoch}
        assert hit == {0, 1, 2, 3}

    def test_all_come_once_before_any_comes_twice(self, images, earlier):
        for seed in range(5):
            epoch = self.epochs(images(8), Replayed(earlier, 0.5), 2, seed)
            drawn = [
                n for shown, told in epoch for n, other in zip(shown, told, strict=True) if other
            ]
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
        epoch = self.epochs(images(8), None, 2, 3)
        assert [n for shown, _ in epoch for n in shown] == order
        with_replay_of_none = self.epochs(images(8), Replayed(images(2), 0.1), 2, 3)
        assert [n for shown, _ in with_replay_of_none for n in shown] == order


class TestReplayApart:
    @pytest.fixture
    def earlier(self, images, dataset_root):
        """The labels of t0 to t4 are 200."""
        dataset = open_dataset(
            {"name": "tiny", "root": str(dataset_root), "layout": {"part": "voc"}}
        )
        return Images(dataset, a_list(5), lambda _, annotated: (np.full_like(annotated, 200),) * 2)

    def epoch(self, image_list, earlier, share, batch_size=4, seed=1, views=WHOLE):
        replayed = Replayed(earlier, share, separate_batches=True)
        rng = np.random.default_rng(seed)
        return list(image_list.epoch(views, batch_size, rng, CPU, replayed))

    @pytest.mark.parametrize(
        ("batch_size", "share", "beside"),
        [(4, 0.5, 4), (4, 0.2, 1), (4, 0.01, 1), (2, 0.75, 6), (8, 0.484, 8), (3, 0.4, 2)],
    )
    def test_the_step_s_batches_stay_whole(self, images, earlier, batch_size, share, beside):
        image_list = images(8)
        order = np.random.default_rng(1).permutation(8).tolist()
        epoch = self.epoch(image_list, earlier, share, batch_size)
        assert len(epoch) == image_list.iterations(batch_size)
        shown = [place for batch in epoch for place in which(batch)]
        assert shown == order[: len(shown)]
        for batch in epoch:
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
            epoch = self.epoch(images(8), earlier, 0.5, 2, seed)
            drawn = [place for batch in epoch for place in which(batch.replayed)]
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
        rng = np.random.default_rng(1)
        assert all(b.replayed is None for b in images(8).epoch(WHOLE, 4, rng, CPU, replayed))


def test_images_of_other_sizes_are_padded_without_trace(dataset_root):
    dataset = open_dataset({"name": "tiny", "root": str(dataset_root), "layout": {"part": "voc"}})
    for name, size in {"t0": (10, 30), "t1": (30, 10), "t2": (24, 24)}.items():
        Image.new("RGB", size, (200, 200, 200)).save(dataset.photograph_path(name))
        Image.new("L", size, 3).save(dataset.label_path(name))
    views = RandomResizedCrop(size=16, area=(0.5, 1.0))
    for epoch in range(5):
        image_list = Images(dataset, a_list(3))
        (batch,) = image_list.epoch(views, 3, np.random.default_rng(epoch), CPU)
        assert (batch.labels == 3).all()
        assert np.abs(bytes_of(batch.images[0]) - 200).max() < 2


def test_whole_photographs_come_in_order_and_in_batches_of_one_size(dataset_root):
    dataset = open_dataset({"name": "tiny", "root": str(dataset_root), "layout": {"part": "voc"}})
    for name in ("t3", "t4"):
        Image.new("RGB", (20, 10)).save(dataset.photograph_path(name))
        Image.new("L", (20, 10), 3).save(dataset.label_path(name))
    image_list = Images(dataset, a_list(8))
    batches = list(image_list.whole(2, CPU))
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


class TestAhead:
    def test_one_is_made_while_its_reader_has_the_one_before(self):
        made, threads, third = [], set(), threading.Event()

        def items():
            for number in range(5):
                threads.add(threading.get_ident())
                made.append(number)
                if number == 2:
                    third.set()
                yield number

        reader = prefetch(items())
        assert next(reader) == 0
        assert next(reader) == 1
        assert third.wait(10)  # nobody has asked for it yet
        assert list(reader) == [2, 3, 4]
        assert made == list(range(5))
        assert threading.get_ident() not in threads

    def test_what_goes_wrong_there_is_raised_here(self):
        def items():
            yield 0
            raise InputError("no more")

        reader = prefetch(items())
        assert next(reader) == 0
        with pytest.raises(InputError, match="no more"):
            next(reader)

    def test_a_reader_that_leaves_ends_it(self):
        before = threading.active_count()
        reader = prefetch(iter(range(100)))
        next(reader)
        assert threading.active_count() == before + 1
        reader.close()
        assert threading.active_count() == before

    def test_batches_are_the_same(self, images):
        view = RandomResizedCrop(size=12, area=(0.5, 1.0), aspect=(1.0, 1.0), flip=0.5)

        def epoch():
            return images(8).epoch(view, 2, np.random.default_rng(3), CPU)

        pairs = list(zip(epoch(), prefetch(epoch()), strict=True))
        assert len(pairs) > 1
        for one, other in pairs:
            assert torch.equal(one.images, other.images)
            assert torch.equal(one.labels, other.labels)
