"""What holds for every rule of the slot. A transform's own test file gives its `EXAMPLE`: numbers
with which it changes something."""

import dataclasses
import importlib

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from cssegcore.core.normalization import IMAGENET
from cssegcore.core.registry import build_part, part_names
from cssegcore.data.augmentation import Augmentation, CropRule, augmentation_modules
from cssegcore.data.batches import training_batches
from cssegcore.data.image_store import ImageStore
from cssegcore.runtime.distributed import ALONE, World
from tests.helpers.greys import a_list
from tests.helpers.tiny_training import CPU

SLOT = "cssegcore.data.augmentation"
CROPS = ["random_resized_crop", "scale_and_crop"]
TRANSFORMS = [name for name in part_names(SLOT) if name not in CROPS]


def example(name, **numbers):
    """The recipe of a transform."""
    example = importlib.import_module(f"tests.data.augmentation.test_{name}").EXAMPLE
    return {"part": name} | example | numbers


def section(*transforms, crop="random_resized_crop"):
    return {"part": crop, "size": 16, "transforms": list(transforms)}


def crops(count=6, maps=2, size=16):
    """Random photographs, and label maps of even labels."""
    rng = np.random.default_rng(7)
    photographs = torch.from_numpy(rng.uniform(0, 255, (count, 3, size, size)).astype(np.float32))
    labels = torch.from_numpy(2 * rng.integers(0, 20, (maps, count, size, size)))
    return photographs.contiguous(memory_format=torch.channels_last), labels


def transformed(recipes, seed=1, mine=slice(None), padding=None):
    """Photographs and labels of a process's share after the transforms."""
    views = Augmentation.of(section(*recipes))
    photographs, labels = crops()
    sizes = np.full((len(photographs), 2), 16)
    drawn = views.draw(sizes, np.random.default_rng(seed)).of(mine)
    acts, numbers = (tuple(map(torch.from_numpy, x)) for x in (drawn.acts, drawn.numbers))
    return views.transform(photographs[mine], labels[:, mine], acts, numbers, padding)


class TestCrops:
    @pytest.mark.parametrize("name", CROPS)
    def test_the_generator_alone_decides(self, name):
        rule = build_part(SLOT, CropRule, {"part": name, "size": 8}, "augmentation")
        sizes = np.array([[40, 60], [60, 40], [7, 90], [1, 1], [1, 50]])
        first, again, other = (rule.draw(sizes, np.random.default_rng(s)) for s in (1, 1, 2))
        assert np.array_equal(first.boxes, again.boxes)
        assert np.array_equal(first.flips, again.flips)
        assert not np.array_equal(first.boxes, other.boxes)

    @pytest.mark.parametrize("name", CROPS)
    @pytest.mark.parametrize(("flip", "share"), [(0.0, 0), (1.0, 1), (0.5, 0.5)])
    def test_as_many_are_mirrored_as_asked_for(self, name, flip, share):
        rule = build_part(SLOT, CropRule, {"part": name, "size": 8, "flip": flip}, "augmentation")
        flips = rule.draw(np.full((2000, 2), 10), np.random.default_rng(1)).flips
        assert abs(flips.mean() - share) < (0.05 if 0 < share < 1 else 1e-9)

    @pytest.mark.parametrize("name", CROPS)
    def test_without_transforms_nothing_more_is_drawn(self, name):
        views = Augmentation.of({"part": name, "size": 8})
        sizes = np.array([[40, 60], [60, 40]])
        one, other = np.random.default_rng(1), np.random.default_rng(1)
        drawn = views.draw(sizes, one)
        views.crop.draw(sizes, other)
        assert one.bit_generator.state == other.bit_generator.state
        assert (drawn.acts, drawn.numbers) == ((), ())


@pytest.mark.parametrize("name", TRANSFORMS)
class TestTransforms:
    @pytest.mark.parametrize("padding", [None, [50, 52, 54, 56, 58, 60]])
    def test_photographs_stay_photographs_and_labels_are_never_mixed(self, name, padding):
        photographs, labels = crops()
        added = None if padding is None else torch.tensor(padding)
        seen, moved = transformed([example(name)], padding=added)
        assert (seen.shape, seen.dtype) == (photographs.shape, torch.float32)
        assert (moved.shape, moved.dtype) == (labels.shape, torch.int64)
        assert seen.min() >= 0
        assert seen.max() <= 255
        for at in range(len(photographs)):
            fill = 255 if padding is None else padding[at]
            assert set(moved[:, at].ravel().tolist()) <= {*range(0, 40, 2), fill}
        assert not torch.equal(seen, photographs)

    def test_all_maps_of_an_image_move_alike(self, name):
        views = Augmentation.of(section(example(name)))
        photographs, labels = crops()
        labels[1] = 300 - labels[0]
        drawn = views.draw(np.full((6, 2), 16), np.random.default_rng(1))
        acts, numbers = (tuple(map(torch.from_numpy, x)) for x in (drawn.acts, drawn.numbers))
        _, (one, other) = views.transform(photographs, labels, acts, numbers, None)
        assert torch.equal(other, torch.where(one == 255, 255, 300 - one))

    def test_the_generator_alone_decides(self, name):
        first, again, other = (transformed([example(name)], seed) for seed in (1, 1, 2))
        assert torch.equal(first[0], again[0])
        assert torch.equal(first[1], again[1])
        assert not torch.equal(first[0], other[0])

    def test_given_tensors_stay_as_they_are(self, name):
        views = Augmentation.of(section(example(name)))
        given, before = crops(), crops()
        drawn = views.draw(np.full((6, 2), 16), np.random.default_rng(1))
        acts, numbers = (tuple(map(torch.from_numpy, x)) for x in (drawn.acts, drawn.numbers))
        kept = [one.clone() for one in numbers]
        views.transform(*given, acts, numbers, None)
        assert all(map(torch.equal, (*given, *numbers), (*before, *kept)))

    def test_shares_of_a_batch_are_those_of_the_whole(self, name):
        whole = transformed([example(name)])
        for mine in (slice(0, 1), slice(1, 4), slice(4, 6)):
            seen, moved = transformed([example(name)], mine=mine)
            assert torch.equal(seen, whole[0][mine])
            assert torch.equal(moved, whole[1][:, mine])

    def test_a_probability_says_how_many_images_are_changed(self, name):
        photographs, labels = crops()
        seen, moved = transformed([example(name, probability=0)])
        assert torch.equal(seen, photographs)
        assert torch.equal(moved, labels)
        always, never = transformed([example(name)]), (photographs, labels)
        found = set()
        for seed in range(20):
            seen, moved = transformed([example(name, probability=0.5)], seed)
            same = (seen == photographs).flatten(1).all(1).tolist()
            for at, kept in enumerate(same):
                assert not kept or torch.equal(moved[:, at], labels[:, at])
            found.add(sum(same))
        assert not (always[0] == never[0]).flatten(1).all(1).any()
        assert min(found) < 3 < max(found)

    def test_it_stays_on_its_device_and_asks_it_for_no_number(self, name):
        """On a GPU that is only pretended: to read a value back would raise."""
        views = Augmentation.of(section(example(name)))
        drawn = views.draw(np.full((6, 2), 16), np.random.default_rng(1))
        with FakeTensorMode():
            gpu = {"device": "cuda:0"}
            photographs = torch.empty(6, 3, 16, 16, **gpu)
            labels = torch.empty(2, 6, 16, 16, dtype=torch.int64, **gpu)
            acts = [torch.empty(6, dtype=torch.bool, **gpu) for _ in drawn.acts]
            numbers = [torch.empty(one.shape, **gpu) for one in drawn.numbers]
            for padding in (None, torch.empty(6, dtype=torch.int64, **gpu)):
                seen, moved = views.transform(photographs, labels, acts, numbers, padding)
                assert (seen.device.type, moved.device.type) == ("cuda", "cuda")

    def test_a_wrong_probability_is_refused(self, name):
        with pytest.raises(ValueError, match=r"`probability` must lie in \[0, 1\], got 2"):
            dataclasses.replace(
                Augmentation.of(section(example(name))).transforms[0], probability=2.0
            )


class TestAllTogether:
    ALL = tuple(example(name) for name in TRANSFORMS)

    def test_they_act_one_after_the_other(self):
        """As if each had been alone, with the numbers that it drew."""
        views = Augmentation.of(section(*self.ALL))
        photographs, labels = crops()
        drawn = views.draw(np.full((6, 2), 16), np.random.default_rng(1))
        numbers = [torch.from_numpy(one) for one in drawn.numbers]
        acts = [torch.ones(6, dtype=torch.bool)] * len(numbers)
        together = views.transform(photographs, labels, acts, numbers, None)
        for rule, own in zip(views.transforms, numbers, strict=True):
            photographs, labels = rule.apply(photographs, labels, own, None)
        assert torch.equal(together[0], photographs)
        assert torch.equal(together[1], labels)

    @pytest.mark.parametrize("crop", CROPS)
    def test_two_processes_see_what_one_sees(self, greys, crop):
        views = Augmentation.of(section(*self.ALL, crop=crop))
        image_list = ImageStore(greys, a_list(8))

        def epoch(place, seed=1):
            rng = np.random.default_rng(seed)
            return list(training_batches(image_list, views, 3, rng, CPU, IMAGENET, None, place))

        whole, shares = epoch(ALONE), [epoch(World(rank, 2)) for rank in range(2)]
        for batch, *parts in zip(whole, *shares, strict=True):
            assert torch.equal(batch.images, torch.cat([part.images for part in parts]))
            assert torch.equal(batch.labels, torch.cat([part.labels for part in parts]))
            assert batch.images.is_contiguous(memory_format=torch.channels_last)
        assert all(map(torch.equal, (b.images for b in whole), (b.images for b in epoch(ALONE))))
        assert not torch.equal(whole[0].images, epoch(ALONE, seed=2)[0].images)

    def test_the_crop_does_not_depend_on_them(self, greys):
        """Photographs are those of the plain crop, changed before they are normalised."""
        image_list = ImageStore(greys, a_list(4))
        inverse = {"part": "scale_values", "gain": [0.5, 0.5], "offset": [20, 20]}
        plain, changed = (
            next(training_batches(image_list, views, 4, np.random.default_rng(1), CPU, IMAGENET))
            for views in (Augmentation.of(section()), Augmentation.of(section(inverse)))
        )
        mean, std = (torch.tensor(v)[:, None, None] for v in (IMAGENET.mean, IMAGENET.std))
        pixels = [(batch.images * std + mean) * 255 for batch in (plain, changed)]
        assert (pixels[1] - (0.5 * pixels[0] + 20)).abs().max() < 1e-3
        assert torch.equal(plain.labels, changed.labels)

    def test_a_section_s_modules_are_those_of_all_its_parts(self):
        assert augmentation_modules(section(*self.ALL)) == [
            f"{SLOT}.{name}" for name in ("random_resized_crop", *TRANSFORMS)
        ]
        assert augmentation_modules({"part": "scale_and_crop"}) == [f"{SLOT}.scale_and_crop"]
