import math

import numpy as np
import pytest
import torch
from torch import nn

from cssegcore.core.normalization import IMAGENET
from cssegcore.data.crop_and_resize import normalise
from cssegcore.inversion.invert import invert, layer_factors
from cssegcore.inversion.label_maps import InversionTargets
from cssegcore.inversion.settings import InversionSettings, InversionWeights
from tests.helpers.known_networks import BLUE, GREY, RED, nearest, telling
from tests.helpers.noise_images import VOID
from tests.helpers.tiny_training import new_segmenter, state, whole

pytestmark = pytest.mark.slow

TERMS = ["target", "features", "total_variation_l1", "total_variation_l2", "image_l2"]
TERMS += ["competition"]


def lopsided(size=16):
    """Two label_maps that neither shifts nor flips leave alike."""
    label_maps = np.zeros((2, size, size), np.uint8)
    label_maps[0, 2:8, 1:5] = 1
    label_maps[0, 9:15, 8:12] = 2
    label_maps[1, 4:10, 10:14] = 2
    return InversionTargets(np.array([1, 2]), label_maps)


def drawn(segmenter, targets, seed=0, student=None, **numbers):
    usual = {
        "phases": ((1, 60),),
        "border": 0,
        "weights": InversionWeights(features=0.0, total_variation_l2=1e-4),
    }
    settings = InversionSettings(**usual | numbers)
    return invert(segmenter, student, targets, settings, np.random.default_rng(seed), whole)


class TestInvert:
    @pytest.mark.parametrize(
        "numbers",
        [
            {"jitter": 0.0, "flip": 0.0},
            {"jitter": 0.25, "flip": 0.0},
            {"jitter": 0.0, "flip": 0.5},
            {"jitter": 0.25, "flip": 0.5},
            {"phases": ((2, 40), (1, 40))},
        ],
    )
    def test_a_layout_is_drawn_where_and_as_it_was_asked_for(self, numbers):
        made = drawn(telling(GREY, RED, BLUE), lopsided(), **numbers)
        assert np.array_equal(nearest(made.images, GREY, RED, BLUE), lopsided().label_maps)
        assert made.rows[-1]["target"] < 0.01 * made.rows[0]["target"]

    @pytest.mark.parametrize("reduction", [2, 3, 5])
    def test_a_reduced_image_shows_the_middles_of_the_layout(self, reduction):
        made = drawn(telling(GREY, RED, BLUE), lopsided(), phases=((reduction, 60),))
        n, size = 16 // reduction, 16 // reduction * reduction
        blocks = made.images[:, :size, :size].reshape(2, n, reduction, n, reduction, 3)
        middles = lopsided().label_maps[:, reduction // 2 :: reduction, reduction // 2 :: reduction]
        assert np.array_equal(nearest(blocks.mean((2, 4)), GREY, RED, BLUE), middles[:, :n, :n])

    def test_nothing_is_asked_for_at_a_border(self):
        numbers = {"border": 1, "phases": ((1, 200),), "jitter": 0.0, "flip": 0.0}
        label_maps = lopsided().label_maps
        asked = np.ones(label_maps.shape, bool)
        for n, y, x in np.ndindex(label_maps.shape):
            around = label_maps[n, max(0, y - 1) : y + 2, max(0, x - 1) : x + 2]
            asked[n, y, x] = len(np.unique(around)) == 1
        made = drawn(telling(GREY, RED, BLUE), lopsided(), **numbers)
        right = nearest(made.images, GREY, RED, BLUE) == label_maps
        assert right[asked].all()
        assert not right[~asked].all()

    def test_images_are_those_of_photographs(self):
        dim = telling([0, 0, 0], [1, 1, 1], [1, 1, 0], sharpness=0.02)
        made = drawn(dim, lopsided(), lr=0.5)
        assert made.images.dtype == np.uint8
        assert made.images.shape == (2, 16, 16, 3)
        assert {0, 255} <= set(made.images.ravel().tolist())
        # and all the way: no value is left to come back from
        farthest = np.maximum(np.array(IMAGENET.mean), 1 - np.array(IMAGENET.mean)) / np.array(
            IMAGENET.std
        )
        longest = math.sqrt(16 * 16 * np.square(farthest).sum())
        assert max(row["image_l2"] for row in made.rows[1:]) <= longest * 1.0001

    def test_the_generator_alone_decides(self):
        segmenter, targets = telling(GREY, RED, BLUE), lopsided()
        torch.manual_seed(3)
        one = drawn(segmenter, targets, phases=((2, 3), (1, 3)))
        torch.manual_seed(4)
        again = drawn(segmenter, targets, phases=((2, 3), (1, 3)))
        other = drawn(segmenter, targets, seed=1, phases=((2, 3), (1, 3)))
        assert np.array_equal(one.images, again.images)
        assert one.rows == again.rows != other.rows
        assert not np.array_equal(one.images, other.images)

    def test_rows(self):
        numbers = {"phases": ((2, 12), (1, 20)), "lr": 0.3}
        made = drawn(telling(GREY, RED, BLUE), lopsided(), **numbers)
        settings = InversionSettings(**numbers)
        assert [list(row) for row in made.rows] == [["iteration", "lr", *TERMS]] * 32
        assert [row["iteration"] for row in made.rows] == list(range(1, 33))
        rates = [settings.rate(at, n) for n in (12, 20) for at in range(n)]
        assert [row["lr"] for row in made.rows] == pytest.approx(rates)
        assert all(row["competition"] == row["features"] == 0 for row in made.rows)  # no weight

    def test_the_networks_are_left_as_they_were(self):
        segmenter = new_segmenter([3]).eval()
        segmenter.extractor.local.weight.requires_grad_(False)
        before = state(segmenter), [p.requires_grad for p in segmenter.parameters()]
        weights = InversionWeights(features=0.1, competition=0.5)
        student = new_segmenter([3]).eval().requires_grad_(False)
        theirs = state(student)
        drawn(segmenter, lopsided(), student=student, phases=((2, 2), (1, 2)), weights=weights)
        assert (state(segmenter), [p.requires_grad for p in segmenter.parameters()]) == before
        assert state(student) == theirs
        assert not any(m.training for m in segmenter.modules())
        assert all(p.grad is None for p in segmenter.parameters())

    def test_the_first_images_are_noise_of_the_generator(self):
        made = drawn(telling(GREY, RED, BLUE), lopsided(), phases=((1, 1),), lr=1e-9)
        noise = np.random.default_rng(0).standard_normal((2, 3, 16, 16), np.float32)
        values = (noise.transpose(0, 2, 3, 1) * IMAGENET.std + IMAGENET.mean) * 255
        assert np.abs(made.images - values.clip(0, 255)).max() < 0.51

    def test_statistics_are_those_of_the_normalisations(self):
        """Two classes of one colour: only the statistics say how bright the images are."""
        norm = nn.BatchNorm2d(3, eps=1e-12)
        segmenter = telling(GREY, GREY, norm=norm)
        norm.running_mean.copy_(torch.tensor([1.0, -1.0, 0.5]))
        norm.running_var.fill_(0.25)
        weights = InversionWeights(target=0.0, features=1.0, total_variation_l2=0.0, image_l2=0.0)
        targets = InversionTargets(np.array([1, 1]), np.ones((2, 16, 16), np.uint8))
        made = drawn(segmenter, targets, weights=weights, stem_factor=3.0, phases=((1, 100),))
        images = normalise(torch.from_numpy(made.images), IMAGENET)
        assert images.mean((0, 2, 3)).tolist() == pytest.approx([1, -1, 0.5], abs=0.03)
        assert images.var((0, 2, 3)).tolist() == pytest.approx([0.25] * 3, abs=0.03)
        # the term is told with its factors and before its weight
        plain = drawn(segmenter, targets, weights=weights, stem_factor=1.0, phases=((1, 1),))
        assert made.rows[0]["features"] == pytest.approx(3 * plain.rows[0]["features"], rel=1e-5)

    def test_presence_asks_for_the_class_anywhere(self):
        targets = InversionTargets(np.array([1, 2]), np.full((2, 16, 16), VOID, np.uint8))
        made = drawn(telling(GREY, RED, BLUE), targets, target="presence", lr=0.2)
        found = nearest(made.images, GREY, RED, BLUE)
        shares = [[(image == c).mean() for c in range(3)] for image in found]
        assert shares[0][1] > 2 * shares[0][2]
        assert shares[1][2] > 2 * shares[1][1]
        assert made.rows[-1]["target"] < 0.5 * made.rows[0]["target"]

    def test_a_competition_moves_images_to_where_a_student_differs(self):
        segmenter, student = telling(GREY, RED, BLUE), telling(GREY, BLUE, RED)
        targets = InversionTargets(np.array([1]), np.full((1, 16, 16), VOID, np.uint8))
        weights = InversionWeights(target=0.0, features=0.0, competition=1.0)
        made = drawn(segmenter, targets, student=student, weights=weights)
        assert made.rows[-1]["competition"] < made.rows[0]["competition"] - 0.1

    def test_progress_wraps_each_phase(self):
        told = []

        def progress(items, count):
            items = list(items)
            told.append((len(items), count))
            return items

        settings = InversionSettings(phases=((2, 3), (1, 4)))
        rng = np.random.default_rng(0)
        invert(telling(GREY, RED, BLUE), None, lopsided(), settings, rng, progress)
        assert told == [(3, 3), (4, 4)]

    def test_factors_name_what_describes_photographs(self):
        segmenter = new_segmenter([3])
        found = layer_factors(segmenter, 7.0)
        assert found["extractor.backbone.stem.0.1"] == 7
        assert set(found) == {
            name
            for name, m in segmenter.named_modules()
            if isinstance(m, nn.BatchNorm2d) and name.startswith("extractor.backbone")
        }
        assert sorted(found.values())[:-1] == [1] * (len(found) - 1)
