import csv
import dataclasses
import json
import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from cssegcore.core.config import parse
from cssegcore.core.errors import InputError
from cssegcore.core.files import digest, write_json
from cssegcore.core.registry import build_part
from cssegcore.data.batches import Images
from cssegcore.data.crop_and_resize import MEAN, STD, normalise
from cssegcore.inversion import judging, sheet, store
from cssegcore.inversion.invert import Wanted, factors, invert
from cssegcore.inversion.settings import Settings
from cssegcore.inversion.store import Made
from cssegcore.inversion.weights import Weights
from cssegcore.method.replay import Replay, _synthesis
from cssegcore.models import checkpoint
from cssegcore.models._base import FeatureExtractor
from cssegcore.models.heads.linear import Linear
from cssegcore.models.outputs import Features
from cssegcore.models.segmenter import Segmenter
from cssegcore.scenario.scenario import StepList
from tests.helpers.tiny_training import CPU, QUICK, Lists, new_segmenter, plan, state, whole

VOID = 255
TERMS = ["target", "features", "total_variation_l1", "total_variation_l2", "image_l2"]
TERMS += ["competition"]


class TestSettings:
    @pytest.mark.parametrize(
        ("wrong", "message"),
        [
            ({"batch_size": 0}, "`batch_size` must be >= 1, got 0"),
            ({"phases": []}, r"`phases` must hold pairs \[reduction, iterations\]"),
            ({"phases": [[1, 10], [0, 5]]}, "`phases` must hold pairs"),
            ({"phases": [[1, 0]]}, "`phases` must hold pairs"),
            ({"phases": [[1]]}, r"`x\.phases\[0\]` must hold 2 values"),
            ({"lr": 0}, "`lr` must be a finite number > 0"),
            ({"lr": math.inf}, "`lr` must be a finite number > 0"),
            ({"betas": [0.5, 1]}, r"`betas` lie in \[0, 1\)"),
            ({"jitter": 0.6}, r"`jitter` must lie in \[0, 0\.5\], got 0\.6"),
            ({"flip": -0.1}, r"`flip` must lie in \[0, 1\.0\], got -0\.1"),
            ({"border": -1}, "`border` must be finite and >= 0, got -1"),
            ({"stem_factor": math.nan}, "`stem_factor` must be finite and >= 0, got nan"),
            ({"target": "class"}, r"`x\.target` must be one of layout, presence"),
            ({"layouts": "real"}, r"`x\.layouts` must be one of procedural, transplanted"),
            ({"weights": {"target": -1}}, r"`x\.weights`: `target` must be a finite number >= 0"),
        ],
    )
    def test_refusals(self, wrong, message):
        with pytest.raises(InputError, match=message):
            parse(Settings, wrong, "x")

    @pytest.mark.parametrize(
        ("iterations", "at", "share"),
        [
            (10, 0, 1),  # rises within one iteration
            (50, 0, 1 / 5),
            (50, 3, 4 / 5),
            (50, 4, 1),
            (3000, 49, 1 / 2),  # for 100 iterations at most
            (3000, 99, 1),
            (5, 0, 1),  # too few to rise over
        ],
    )
    def test_the_rate_rises(self, iterations, at, share):
        falling = math.cos(math.pi * at / iterations / 2) ** 2
        assert Settings(lr=0.3).rate(at, iterations) == pytest.approx(0.3 * share * falling)

    def test_and_falls_to_nothing(self):
        settings = Settings(lr=2.0)
        assert settings.rate(50, 100) == pytest.approx(1.0)
        assert settings.rate(25, 100) == pytest.approx(1 + math.sqrt(0.5))
        assert 0 < settings.rate(999, 1000) < 1e-5


GREY, RED, BLUE = (np.array(c) for c in ([0.5, 0.5, 0.5], [0.9, 0.1, 0.1], [0.1, 0.1, 0.9]))


def varied(segmenter):
    """Makes an untrained network see several classes: its statistics become those of noise."""
    segmenter.groups[-1].classifier.weight.data *= 5
    norms = [m for m in segmenter.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None  # the mean of what it meets from now on
        norm.reset_running_stats()
    noise = torch.randn(16, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        segmenter.train()(noise)
    for norm in norms:
        norm.momentum = 0.1
    return segmenter.eval()


class Colours(FeatureExtractor):
    """Features are the photograph's colours, pixel by pixel."""

    channels = last_stage_channels = 3

    def __init__(self, norm=None):
        super().__init__()
        first = nn.Conv2d(3, 3, 1, bias=False)
        with torch.no_grad():
            first.weight.copy_(torch.eye(3)[..., None, None])
        self.backbone = nn.Sequential(first, norm or nn.BatchNorm2d(3, eps=1e-12))

    def forward(self, images):
        top = self.backbone(images)
        return Features((top,), top, top)


def telling(*colours, norm=None, sharpness=2.0):
    """A network that gives each pixel the class whose colour is nearest."""
    segmenter = Segmenter(Colours(norm), Linear(), [len(colours)]).eval()
    at = torch.tensor((np.array(colours) - MEAN) / STD, dtype=torch.float32)
    classifier = segmenter.groups[0].classifier
    with torch.no_grad():
        classifier.weight.copy_(2 * sharpness * at[..., None, None])
        classifier.bias.copy_(-sharpness * at.square().sum(1))
    return segmenter


def nearest(images, *colours):
    """The class of each pixel of stored images by the nearest colour."""
    away = images[..., None, :] / 255 / np.array(STD) - np.array(colours) / np.array(STD)
    return (away**2).sum(-1).argmin(-1)


def lopsided(size=16):
    """Two layouts that neither shifts nor flips leave alike."""
    layouts = np.zeros((2, size, size), np.uint8)
    layouts[0, 2:8, 1:5] = 1
    layouts[0, 9:15, 8:12] = 2
    layouts[1, 4:10, 10:14] = 2
    return Wanted(np.array([1, 2]), layouts)


def drawn(segmenter, wanted, seed=0, student=None, **numbers):
    usual = {
        "phases": ((1, 60),),
        "border": 0,
        "weights": Weights(features=0.0, total_variation_l2=1e-4),
    }
    settings = Settings(**usual | numbers)
    return invert(segmenter, student, wanted, settings, np.random.default_rng(seed), whole)


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
        assert np.array_equal(nearest(made.images, GREY, RED, BLUE), lopsided().layouts)
        assert made.rows[-1]["target"] < 0.01 * made.rows[0]["target"]

    @pytest.mark.parametrize("reduction", [2, 3, 5])
    def test_a_reduced_image_shows_the_middles_of_the_layout(self, reduction):
        made = drawn(telling(GREY, RED, BLUE), lopsided(), phases=((reduction, 60),))
        n, size = 16 // reduction, 16 // reduction * reduction
        blocks = made.images[:, :size, :size].reshape(2, n, reduction, n, reduction, 3)
        middles = lopsided().layouts[:, reduction // 2 :: reduction, reduction // 2 :: reduction]
        assert np.array_equal(nearest(blocks.mean((2, 4)), GREY, RED, BLUE), middles[:, :n, :n])

    def test_nothing_is_asked_for_at_a_border(self):
        numbers = {"border": 1, "phases": ((1, 200),), "jitter": 0.0, "flip": 0.0}
        layouts = lopsided().layouts
        asked = np.ones(layouts.shape, bool)
        for n, y, x in np.ndindex(layouts.shape):
            around = layouts[n, max(0, y - 1) : y + 2, max(0, x - 1) : x + 2]
            asked[n, y, x] = len(np.unique(around)) == 1
        made = drawn(telling(GREY, RED, BLUE), lopsided(), **numbers)
        right = nearest(made.images, GREY, RED, BLUE) == layouts
        assert right[asked].all()
        assert not right[~asked].all()

    def test_images_are_those_of_photographs(self):
        dim = telling([0, 0, 0], [1, 1, 1], [1, 1, 0], sharpness=0.02)
        made = drawn(dim, lopsided(), lr=0.5)
        assert made.images.dtype == np.uint8
        assert made.images.shape == (2, 16, 16, 3)
        assert {0, 255} <= set(made.images.ravel().tolist())
        # and all the way: no value is left to come back from
        farthest = np.maximum(np.array(MEAN), 1 - np.array(MEAN)) / np.array(STD)
        longest = math.sqrt(16 * 16 * np.square(farthest).sum())
        assert max(row["image_l2"] for row in made.rows[1:]) <= longest * 1.0001

    def test_the_generator_alone_decides(self):
        segmenter, wanted = telling(GREY, RED, BLUE), lopsided()
        torch.manual_seed(3)
        one = drawn(segmenter, wanted, phases=((2, 3), (1, 3)))
        torch.manual_seed(4)
        again = drawn(segmenter, wanted, phases=((2, 3), (1, 3)))
        other = drawn(segmenter, wanted, seed=1, phases=((2, 3), (1, 3)))
        assert np.array_equal(one.images, again.images)
        assert one.rows == again.rows != other.rows
        assert not np.array_equal(one.images, other.images)

    def test_rows(self):
        numbers = {"phases": ((2, 12), (1, 20)), "lr": 0.3}
        made = drawn(telling(GREY, RED, BLUE), lopsided(), **numbers)
        settings = Settings(**numbers)
        assert [list(row) for row in made.rows] == [["iteration", "lr", *TERMS]] * 32
        assert [row["iteration"] for row in made.rows] == list(range(1, 33))
        rates = [settings.rate(at, n) for n in (12, 20) for at in range(n)]
        assert [row["lr"] for row in made.rows] == pytest.approx(rates)
        assert all(row["competition"] == row["features"] == 0 for row in made.rows)  # no weight

    def test_the_networks_are_left_as_they_were(self):
        segmenter = new_segmenter([3]).eval()
        segmenter.extractor.local.weight.requires_grad_(False)
        before = state(segmenter), [p.requires_grad for p in segmenter.parameters()]
        weights = Weights(features=0.1, competition=0.5)
        student = new_segmenter([3]).eval()
        theirs = state(student)
        drawn(segmenter, lopsided(), student=student, phases=((2, 2), (1, 2)), weights=weights)
        assert (state(segmenter), [p.requires_grad for p in segmenter.parameters()]) == before
        assert state(student) == theirs
        assert not any(m.training for m in segmenter.modules())
        assert all(p.grad is None for p in segmenter.parameters())

    def test_the_first_images_are_noise_of_the_generator(self):
        made = drawn(telling(GREY, RED, BLUE), lopsided(), phases=((1, 1),), lr=1e-9)
        noise = np.random.default_rng(0).standard_normal((2, 3, 16, 16), np.float32)
        values = (noise.transpose(0, 2, 3, 1) * STD + MEAN) * 255
        assert np.abs(made.images - values.clip(0, 255)).max() < 0.51

    def test_statistics_are_those_of_the_normalisations(self):
        """Two classes of one colour: only the statistics say how bright the images are."""
        norm = nn.BatchNorm2d(3, eps=1e-12)
        segmenter = telling(GREY, GREY, norm=norm)
        norm.running_mean.copy_(torch.tensor([1.0, -1.0, 0.5]))
        norm.running_var.fill_(0.25)
        weights = Weights(target=0.0, features=1.0, total_variation_l2=0.0, image_l2=0.0)
        wanted = Wanted(np.array([1, 1]), np.ones((2, 16, 16), np.uint8))
        made = drawn(segmenter, wanted, weights=weights, stem_factor=3.0, phases=((1, 100),))
        images = normalise(torch.from_numpy(made.images))
        assert images.mean((0, 2, 3)).tolist() == pytest.approx([1, -1, 0.5], abs=0.03)
        assert images.var((0, 2, 3)).tolist() == pytest.approx([0.25] * 3, abs=0.03)
        # the term is told with its factors and before its weight
        plain = drawn(segmenter, wanted, weights=weights, stem_factor=1.0, phases=((1, 1),))
        assert made.rows[0]["features"] == pytest.approx(3 * plain.rows[0]["features"], rel=1e-5)

    def test_presence_asks_for_the_class_anywhere(self):
        wanted = Wanted(np.array([1, 2]), np.full((2, 16, 16), VOID, np.uint8))
        made = drawn(telling(GREY, RED, BLUE), wanted, target="presence", lr=0.2)
        found = nearest(made.images, GREY, RED, BLUE)
        shares = [[(image == c).mean() for c in range(3)] for image in found]
        assert shares[0][1] > 2 * shares[0][2]
        assert shares[1][2] > 2 * shares[1][1]
        assert made.rows[-1]["target"] < 0.5 * made.rows[0]["target"]

    def test_a_competition_moves_images_to_where_a_student_differs(self):
        segmenter, student = telling(GREY, RED, BLUE), telling(GREY, BLUE, RED)
        wanted = Wanted(np.array([1]), np.full((1, 16, 16), VOID, np.uint8))
        weights = Weights(target=0.0, features=0.0, competition=1.0)
        made = drawn(segmenter, wanted, student=student, weights=weights)
        assert made.rows[-1]["competition"] < made.rows[0]["competition"] - 0.1

    def test_progress_wraps_each_phase(self):
        told = []

        def progress(items, count):
            items = list(items)
            told.append((len(items), count))
            return items

        settings = Settings(phases=((2, 3), (1, 4)))
        rng = np.random.default_rng(0)
        invert(telling(GREY, RED, BLUE), None, lopsided(), settings, rng, progress)
        assert told == [(3, 3), (4, 4)]

    def test_a_network_without_statistics_is_refused(self):
        for norm in (nn.GroupNorm(1, 3), nn.BatchNorm2d(3, track_running_stats=False)):
            with pytest.raises(InputError, match="cannot be inverted"):
                drawn(telling(GREY, RED, BLUE, norm=norm), lopsided())

    def test_factors_name_what_describes_photographs(self):
        segmenter = new_segmenter([3])
        found = factors(segmenter, 7.0)
        assert found["extractor.backbone.stem.0.1"] == 7
        assert set(found) == {
            name
            for name, m in segmenter.named_modules()
            if isinstance(m, nn.BatchNorm2d) and name.startswith("extractor.backbone")
        }
        assert sorted(found.values())[:-1] == [1] * (len(found) - 1)


class TestJudging:
    def test_what_is_seen_is_the_average_with_the_mirrored_image(self):
        torch.manual_seed(1)
        segmenter = varied(new_segmenter([4]))
        images = np.random.default_rng(1).integers(0, 256, (3, 16, 16, 3), np.uint8)
        classes, confidence = judging.seen(segmenter, images)
        with torch.no_grad():
            one = segmenter(normalise(torch.from_numpy(images))).logits.double().numpy()
            mirrored = np.ascontiguousarray(images[:, :, ::-1])
            two = segmenter(normalise(torch.from_numpy(mirrored))).logits.double().numpy()
        scores = np.zeros(one.shape)
        for n, y, x in np.ndindex(3, 16, 16):
            here, there = np.exp(one[n, :, y, x]), np.exp(two[n, :, y, 15 - x])
            scores[n, :, y, x] = (here / here.sum() + there / there.sum()) / 2
        assert np.array_equal(classes, scores.argmax(1))
        assert np.abs(confidence - 255 * scores.max(1)).max() < 0.51
        assert (classes != one.argmax(1)).any()
        assert classes.dtype == confidence.dtype == np.uint8

    @pytest.mark.parametrize("batch_size", [1, 2, 5, 8])
    def test_any_number_of_images_is_seen_alike(self, batch_size):
        segmenter = telling(GREY, RED, BLUE)
        images = np.random.default_rng(1).integers(0, 256, (5, 8, 8, 3), np.uint8)
        found = judging.classes_seen(segmenter, images, batch_size)
        assert np.array_equal(found, nearest(images, GREY, RED, BLUE))

    CLASSES = np.array([[0, 1, 2, 3], [0, 1, 2, 3]], np.uint8).reshape(2, 2, 2)
    SURE = np.array([[255, 178, 177, 255], [100, 255, 255, 255]], np.uint8).reshape(2, 2, 2)
    LAYOUTS = np.array([[1, 1, 2, 0], [3, VOID, 3, 3]], np.uint8).reshape(2, 2, 2)

    @pytest.mark.parametrize(
        ("least", "by_layout", "expected"),
        [
            (0.0, False, [[0, 1, 2, 3], [0, 1, 2, 3]]),
            (0.7, False, [[0, 1, VOID, 3], [VOID, 1, 2, 3]]),
            (1.0, False, [[0, VOID, VOID, 3], [VOID, 1, 2, 3]]),
            (0.0, True, [[0, 1, 2, VOID], [0, VOID, VOID, 3]]),
            (0.7, True, [[0, 1, VOID, VOID], [VOID, VOID, VOID, 3]]),
        ],
    )
    def test_what_is_believed(self, least, by_layout, expected):
        given = self.CLASSES.copy(), self.SURE.copy(), self.LAYOUTS.copy() if by_layout else None
        labels = judging.believed(*given, least)
        assert labels.reshape(2, 4).tolist() == expected
        assert labels.dtype == np.uint8
        assert np.array_equal(given[0], self.CLASSES)
        assert np.array_equal(given[1], self.SURE)

    def test_overlap(self):
        rng = np.random.default_rng(2)
        target, found = rng.random((4, 5, 5)) < 0.4, rng.random((4, 5, 5)) < 0.4
        target[2] = found[2] = False
        target[3], found[3] = True, False
        expected = []
        for a, b in zip(target, found, strict=True):
            either = [p or q for p, q in zip(a.ravel(), b.ravel(), strict=True)]
            both = [p and q for p, q in zip(a.ravel(), b.ravel(), strict=True)]
            expected.append(sum(both) / sum(either) if any(either) else 0.0)
        assert judging.overlap(target, found).tolist() == pytest.approx(expected)

    def test_agreement_is_counted(self):
        rng = np.random.default_rng(3)
        asked = rng.choice([0, 0, 1, 2, VOID], (3, 6, 6)).astype(np.uint8)
        seen = np.where(rng.random(asked.shape) < 0.6, asked % VOID, rng.integers(0, 4, (3, 6, 6)))
        found = judging.agreement(asked, seen.astype(np.uint8), 4)
        pairs = list(zip(asked.ravel().tolist(), seen.ravel().tolist(), strict=True))
        shares, ious = [], []
        for label in range(4):
            mine = [s == label for a, s in pairs if a == label]
            shares.append(sum(mine) / len(mine) if mine else None)
            either = [1 for a, s in pairs if a != VOID and label in (a, s)]
            if mine:
                ious.append(sum(mine) / len(either))
        target = [a == s for a, s in pairs if a not in (0, VOID)]
        assert found["by_class"] == [s if s is None else pytest.approx(s) for s in shares]
        assert found["by_class"][3] is None
        assert found["target_pixels"] == pytest.approx(sum(target) / len(target))
        assert found["miou"] == pytest.approx(sum(ious) / len(ious), abs=1e-5)

    def test_where_nothing_was_asked_for_there_is_no_number(self):
        nothing, seen = np.full((1, 4, 4), VOID, np.uint8), np.zeros((1, 4, 4), np.uint8)
        found = judging.agreement(nothing, seen, 3)
        assert (found["target_pixels"], found["miou"]) == (None, None)
        assert judging.agreement(seen, seen, 3)["target_pixels"] is None

    def test_a_network_that_met_just_these_images_is_no_distance_away(self):
        segmenter = telling(GREY, RED)
        images = torch.randn(4, 3, 9, 9, generator=torch.Generator().manual_seed(1))
        norm = segmenter.extractor.backbone[1]
        norm.running_mean.copy_(images.mean((0, 2, 3)))
        norm.running_var.copy_(images.var((0, 2, 3), correction=0))
        assert judging.distance(segmenter, images) == pytest.approx(0, abs=1e-5)
        # by 2 off in every channel's mean; the first normalisation counts once
        assert judging.distance(segmenter, images + 2) == pytest.approx(2 * math.sqrt(3), rel=1e-4)
        assert all(p.requires_grad for p in segmenter.parameters())


@pytest.fixture(scope="module")
def lists(tmp_path_factory):
    return Lists.write(tmp_path_factory.mktemp("tiny"))


def some_made(name="step0_red_0000", seed=0, size=16):
    rng = np.random.default_rng(seed)
    return Made(
        name,
        rng.integers(0, 256, (size, size, 3), np.uint8),
        rng.choice([0, 1, 2, VOID], (size, size)).astype(np.uint8),
        rng.integers(0, 256, (size, size), np.uint8),
        rng.choice([0, 1], (size, size)).astype(np.uint8),
    )


class TestStore:
    def test_every_file_reads_back(self, tmp_path):
        made = some_made()
        name, _ = store.write(tmp_path, made)
        assert name == made.name
        for kind, values in (
            ("images", made.image),
            ("labels", made.labels),
            ("confidence", made.confidence),
            ("layouts", made.layout),
        ):
            with Image.open(tmp_path / kind / f"{name}.png") as image:
                assert np.array_equal(np.asarray(image), values)

    def test_the_digest_is_that_of_image_and_labels(self, tmp_path):
        made = some_made()

        def written(**changed):
            return store.write(tmp_path, dataclasses.replace(made, **changed))[1]

        assert written() == written(name="other")
        image, labels = made.image.copy(), made.labels.copy()
        image[3, 3, 0] ^= 1
        labels[3, 3] = (labels[3, 3] + 1) % 3
        assert len({written(), written(image=image), written(labels=labels)}) == 3

    @pytest.mark.parametrize("step", ["step1", "step2"])
    def test_labels_are_read_unchanged_at_any_later_step(self, tmp_path, lists, step):
        made = [some_made(f"m{i}", i) for i in range(3)]
        current, rows = lists.of(step), [store.write(tmp_path, one) for one in made]
        store.listed(current, 3, rows).write(tmp_path / store.LIST)
        steps = [{"step": "a", "images": ["m1"]}, {"step": "b", "images": ["m0", "m2"]}]
        write_json(tmp_path / "manifest.json", {"steps": steps})
        opened = store.opened(tmp_path)
        assert opened.sources.tolist() == [1, 0, 1]
        assert opened.teachers == [tmp_path / "models" / f"{n}.safetensors" for n in "ab"]
        dataset, image_list = opened.dataset, opened.image_list
        assert image_list.classes == current.classes
        assert image_list.images == rows
        assert dataset.names("train") == ["m0", "m1", "m2"]
        images = Images(dataset, image_list)
        found = list(images.decoded())
        for (name, photograph, labels), one in zip(found, made, strict=True):
            assert name == one.name
            assert np.array_equal(photograph, one.image)
            assert np.array_equal(labels, one.labels)
        ((_, batch),) = images.whole(3, CPU)
        assert torch.equal(batch.labels, batch.annotated)

    def test_labels_of_classes_that_are_not_known_are_background(self, tmp_path, lists):
        made = dataclasses.replace(some_made(), labels=np.full((16, 16), 3, np.uint8))
        store.listed(lists.of("step2"), 3, [store.write(tmp_path, made)]).write(
            tmp_path / store.LIST
        )
        steps = [{"step": "a", "images": [made.name]}]
        write_json(tmp_path / "manifest.json", {"steps": steps})
        opened = store.opened(tmp_path)
        ((_, _, labels),) = Images(opened.dataset, opened.image_list).decoded()
        assert (labels == 0).all()

    def test_nothing_is_there(self, tmp_path):
        assert store.opened(tmp_path) is None

    def test_names_of_files(self):
        names = ["a_dining table/été", "a_dog", "a_dining-table/été", "a_dining table-été"]
        stems = ["a_dining-table-été", "a_dog", "a_dining-table-été-2", "a_dining-table-été-3"]
        assert store.file_stems(names) == stems


def test_a_sheet_shows_each_class_with_its_name(tmp_path):
    bare = dataclasses.replace(some_made(), layout=np.full((16, 16), VOID, np.uint8))
    sizes = []
    for rows in (
        {"red": [some_made()] * 10},
        {"red": [some_made()] * 2, "green": [some_made()], "none": []},
        {"red": [bare]},
    ):
        sheet.save(tmp_path / "sheet.png", rows)
        with Image.open(tmp_path / "sheet.png") as image:
            sizes.append(image.size)
            assert len(np.unique(np.asarray(image.convert("RGB")))) > 2
    tall, line = sheet.SIDE + sheet.MARGIN, sheet.TITLE
    wide = sheet.MARGIN + sheet.COLUMNS * tall
    heights = [sheet.MARGIN + n * tall + titles * line for n, titles in ((3, 1), (6, 2), (2, 1))]
    assert sizes == [(wide, height) for height in heights]


@pytest.fixture(scope="module")
def models(lists, tmp_path_factory):
    """Files of untrained models that see several classes, after step 0 and step 1."""
    folder, previous = tmp_path_factory.mktemp("models"), None
    made = {}
    for step in ("step0", "step1"):
        segmenter = (job := lists.prepare(plan("ft"), step, previous)).segmenter
        varied(segmenter)
        previous = made[step] = folder / f"{step}.safetensors"
        checkpoint.save(previous, segmenter, job.model, {})
    return made


@pytest.fixture(autouse=True)
def on_cpu(monkeypatch):
    monkeypatch.setenv("CSSEGCORE_DEVICE", "cpu")


def part(inversion=None, **numbers):
    usual = {"per_class": 2, "agreement": 0, "confidence": 0, "extra": 0}
    recipe = {"part": "deepinversion", **usual, **numbers, "inversion": QUICK | (inversion or {})}
    return build_part("cssegcore.method.replay", Replay, recipe, "method.replay")


def files(folder):
    return {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


def picture(path):
    with Image.open(path) as image:
        return np.array(image)


class TestSynthesize:
    def made(self, lists, models, folder, step="step1", how=None, **changed):
        """Makes the images for a step; returns their folder, manifest and list."""
        before = {"step1": "step0", "step2": "step1"}[step]
        task = lists.synthesis(plan("ft"), step, models[before], folder)
        out = folder / step / "synthesis"
        (how or part()).synthesize(out, dataclasses.replace(task, **changed))
        manifest = json.loads((out / "manifest.json").read_text())
        return out, manifest, StepList.read(out / "list.json")

    def test_two_steps(self, lists, models, tmp_path):
        first, early, _ = self.made(lists, models, tmp_path, "step1")
        second, late, listed = self.made(lists, models, tmp_path, "step2")
        own = [f"step0_{name}_{i:04d}" for name in ("red", "green") for i in range(2)]
        assert early["images"] == own
        assert late["images"] == listed.names == [*own, "step1_blue_0000", "step1_blue_0001"]
        assert early["steps"] == late["steps"][:1]
        assert [s["images"] for s in late["steps"]] == [own, listed.names[4:]]
        for step in ("step0", "step1"):
            assert store.teacher(second, step).read_bytes() == models[step].read_bytes()
        assert [[row["class"] for row in s["classes"]] for s in late["steps"]] == [
            ["red", "green"],
            ["blue"],
        ]
        assert late["steps"][0]["classes"][0] == {
            "class": "red",
            "wanted": 2,
            "kept": 2,
            "made": 2,
        }
        assert late["steps"][1]["classes"][0]["made"] == 4  # a batch is filled up
        kept = files(first)
        after = files(second)
        changing = {"manifest.json", "list.json"}
        assert {n: after[n] for n in kept if n not in changing} == {
            n: text for n, text in kept.items() if n not in changing
        }
        assert listed.visible == [1, 2, 3]
        assert listed.classes == lists.of("step2").classes
        assert {f"{kind}/{name}.png" for kind in store.KINDS for name in listed.names} == {
            n for n in after if n.split("/")[0] in store.KINDS
        }
        for step in ("step0", "step1"):
            assert picture(second / "sheets" / f"{step}.png").shape[2] == 3
            with (second / "curves" / f"{step}.csv").open() as text:
                rows = list(csv.DictReader(text))
            assert list(rows[0]) == ["batch", "iteration", "lr", *TERMS]
            assert len(rows) == QUICK["phases"][0][1]

    def test_labels_are_what_the_model_sees_in_the_finished_image(self, lists, models, tmp_path):
        how = part(confidence=0.6, per_class=4)
        out, manifest, listed = self.made(lists, models, tmp_path, how=how)
        segmenter = checkpoint.load(models["step0"], CPU).segmenter
        segmenter.to(memory_format=torch.channels_last)
        for name, told in listed.images:
            image, labels, sure, layout = (picture(out / k / f"{name}.png") for k in store.KINDS)
            classes, confidence = judging.seen(segmenter, image[None])
            assert np.abs(sure.astype(int) - confidence[0]).max() <= 1
            for at in np.ndindex(labels.shape):
                asked = classes[0][at] == 0 or classes[0][at] in layout
                believed = asked and sure[at] >= round(0.6 * 255)
                assert labels[at] == (classes[0][at] if believed else VOID)
            files = [(out / k / f"{name}.png").read_bytes() for k in ("images", "labels")]
            assert told == digest(*files)
            primary = {"red": 1, "green": 2}[name.split("_")[1]]
            assert (layout == primary).any()
        assert len({told for _, told in listed.images}) == 8  # of two batches
        labels = np.stack([picture(out / "labels" / f"{name}.png") for name in listed.names])
        share = manifest["steps"][0]["labelled"]
        assert share == pytest.approx((labels != VOID).mean())
        assert 0 < share < 1

    def test_only_what_agrees_is_kept_and_more_is_made_of_what_lacks(self, lists, models, tmp_path):
        how = {"per_class": 3, "inversion": {"batch_size": 6}}
        out, _, listed = self.made(lists, models, tmp_path / "all", how=part(**how))
        segmenter = checkpoint.load(models["step0"], CPU).segmenter
        scores = {}
        for name in listed.names:
            image, layout = (picture(out / k / f"{name}.png") for k in ("images", "layouts"))
            primary = {"red": 1, "green": 2}[name.split("_")[1]]
            found, asked = judging.seen(segmenter, image[None])[0][0] == primary, layout == primary
            scores[name] = (found & asked).sum() / (found | asked).sum()
        second, best = sorted(set(scores.values()))[-2:]
        least = float(second + best) / 2
        good = {image[1] for image in listed.images if scores[image[0]] >= least}
        image_list = part(**how, agreement=least)
        out, manifest, listed = self.made(lists, models, tmp_path / "some", how=image_list)
        assert {told for _, told in listed.images} == good
        assert manifest["steps"][0]["batches"] == 1

        told = []
        more = part(**how, agreement=least, extra=2)
        _, manifest, _ = self.made(lists, models, tmp_path / "x", how=more, tell=told.append)
        (numbers,) = manifest["steps"]
        assert 2 <= numbers["batches"] <= 3
        assert len(told) == numbers["batches"]
        assert told[0] == f"step0: batch 1, {len(good)} of 6 images kept"
        assert sum(row["made"] for row in numbers["classes"]) == 6 * numbers["batches"]
        assert all(row["kept"] <= 3 for row in numbers["classes"])
        assert sum(row["kept"] for row in numbers["classes"]) >= len(good)

    def test_nothing_good_enough(self, lists, models, tmp_path):
        with pytest.raises(InputError) as refused:
            self.made(lists, models, tmp_path, how=part(agreement=1, extra=1))
        assert str(refused.value) == (
            "none of 8 images made from step0's model shows what was asked for: give"
            " `method.replay.inversion.phases` more iterations, or lower"
            " `method.replay.agreement`."
        )
        assert not (tmp_path / "step1" / "synthesis").exists()

    def test_seed_and_step_decide(self, lists, models, tmp_path):
        found = [
            files(self.made(lists, models, tmp_path / str(i), seed=seed)[0])
            for i, seed in enumerate((1, 1, 2))
        ]
        assert found[0] == found[1]
        images = [{f for n, f in made.items() if n.startswith("images/")} for made in found]
        assert not images[0] & images[2]

    @pytest.mark.parametrize("moment", ["between batches", "in the second batch"])
    def test_killed_and_started_again_it_gives_the_same_bytes(
        self, lists, models, tmp_path, moment, monkeypatch
    ):
        how = part(per_class=6, extra=1)  # three batches
        whole_run, *_ = self.made(lists, models, tmp_path / "whole", how=how)
        cut, calls = tmp_path / "cut", []

        class KilledError(Exception):
            pass

        def tell(line):
            if moment == "between batches" and "batch 2" in line:
                raise KilledError

        def progress(items, _):
            calls.append(1)
            if moment == "in the second batch" and len(calls) == 2:
                raise KilledError
            return items

        with pytest.raises(KilledError):
            self.made(lists, models, cut, how=how, tell=tell, progress=progress)
        resume = cut / "step1-synthesis.pt"
        assert resume.exists()
        assert not (cut / "step1" / "synthesis").exists()

        calls, real = [], _synthesis.invert
        monkeypatch.setattr(_synthesis, "invert", lambda *a: calls.append(1) or real(*a))
        fixed, *_ = self.made(lists, models, cut, how=how)
        assert len(calls) == (1 if moment == "between batches" else 2)
        assert not resume.exists()
        assert files(fixed) == files(whole_run)

    def test_statistics(self, lists, models, tmp_path, monkeypatch):
        monkeypatch.setenv("HOME", str(models["step0"].parent))
        torch.manual_seed(5)
        other = checkpoint.load(models["step0"], CPU)
        for weight in other.segmenter.parameters():
            weight.data += 0.3 * torch.randn_like(weight)
        path = models["step0"].parent / "other"
        checkpoint.save(path, other.segmenter, other.model, {})
        how = part(verifier="~/other", student="~/other")
        out, manifest, listed = self.made(lists, models, tmp_path, how=how)
        (numbers,) = manifest["steps"]
        assert (numbers["step"], numbers["batches"]) == ("step0", 1)
        assert numbers["verifier"] == digest(path.read_bytes())
        images, layouts = (
            np.stack([picture(out / kind / f"{name}.png") for name in listed.names])
            for kind in ("images", "layouts")
        )
        for who, model in (("inverted", models["step0"]), ("independent", path)):
            segmenter = checkpoint.load(model, CPU).segmenter
            classes, _ = judging.seen(segmenter, images)
            target = layouts > 0
            share = (classes == layouts)[target].mean()
            assert numbers["agreement"][who]["target_pixels"] == pytest.approx(share, abs=0.01)
        # one batch: the images are all that was made, in another order
        photographs = normalise(torch.from_numpy(images))
        segmenter = checkpoint.load(models["step0"], CPU).segmenter
        away = judging.distance(segmenter, photographs)
        assert numbers["distance"]["made"] == pytest.approx(away, rel=1e-3)
        assert numbers["distance"]["real"] > 0
        without = self.made(lists, models, tmp_path / "2", how=part())[1]["steps"][0]
        assert list(without["agreement"]) == ["inverted"]
        assert without["verifier"] == ""

    @pytest.mark.parametrize("role", ["student", "verifier"])
    def test_a_second_model_of_other_classes_is_refused(self, lists, models, tmp_path, role):
        with pytest.raises(InputError) as refused:
            self.made(lists, models, tmp_path, how=part(**{role: str(models["step1"])}))
        assert str(refused.value) == (
            f"`method.replay.{role}`: the model {models['step1']} tells background, red, green,"
            " blue apart, and the one that is inverted background, red, green: give one of the"
            " same classes."
        )
        with pytest.raises(InputError, match="nowhere does not exist"):
            self.made(lists, models, tmp_path, how=part(**{role: "nowhere"}))

    def test_a_student_competes(self, lists, models, tmp_path):
        weights = {"weights": {"competition": 0.5}}
        how = part(weights, student=str(models["step0"]))
        out, *_ = self.made(lists, models, tmp_path, how=how)
        with (out / "curves" / "step0.csv").open() as text:
            assert all(float(row["competition"]) > 0 for row in csv.DictReader(text))

    def test_presence(self, lists, models, tmp_path):
        all_at_once = {"target": "presence", "batch_size": 8}
        how = part(all_at_once, per_class=4)
        out, manifest, listed = self.made(lists, models, tmp_path, how=how)
        assert len(listed.names) == 8
        for name in listed.names:
            assert (picture(out / "layouts" / f"{name}.png") == VOID).all()
            assert (picture(out / "labels" / f"{name}.png") != VOID).all()
        (numbers,) = manifest["steps"]
        assert numbers["labelled"] == 1
        tall = picture(out / "sheets" / "step0.png").shape[0]
        lines = 2 * (2 * (sheet.SIDE + sheet.MARGIN) + sheet.TITLE)
        assert tall == sheet.MARGIN + lines

        shares = {
            name: (picture(out / "labels" / f"{name}.png") == 1 + ("green" in name)).mean()
            for name in listed.names
        }
        least = sorted(shares.values())[4]
        some = part(all_at_once, per_class=4, agreement=least)
        _, _, fewer = self.made(lists, models, tmp_path / "2", how=some)
        expected = {told for name, told in listed.images if shares[name] >= least}
        assert {told for _, told in fewer.images} == expected
        assert 0 < len(expected) < 8

    def test_transplanted_layouts_have_the_outlines_of_the_step_s_objects(
        self, lists, models, tmp_path, monkeypatch
    ):
        how = part({"layouts": "transplanted"})
        out, _, listed = self.made(lists, models, tmp_path, how=how)
        for name in listed.names:  # the tiny scenes hold nothing but squares
            y, x = np.nonzero(picture(out / "layouts" / f"{name}.png") == 1 + ("green" in name))
            assert len(y) == (np.ptp(y) + 1) * (np.ptp(x) + 1)
        monkeypatch.setattr(_synthesis, "LEAST_OBJECT", 65)
        with pytest.raises(InputError, match="no object of 65 pixels or more is annotated for ste"):
            self.made(lists, models, tmp_path / "2", how=how)

    @pytest.mark.parametrize(
        ("size", "phases", "least"), [(15, [[1, 1]], 16), (16, [[17, 1], [1, 1]], 17)]
    )
    def test_views_too_small_to_draw_are_refused(
        self, lists, models, tmp_path, size, phases, least
    ):
        views = plan().augmentation | {"size": size}
        how = part({"phases": phases})
        with pytest.raises(InputError, match=rf"`augmentation\.size` is {size}, .* of {least} pix"):
            self.made(lists, models, tmp_path, how=how, augmentation=views)


class TestPart:
    def test_a_recipe_pays_for_no_torch(self):
        code = "import sys, cssegcore.method.replay.deepinversion; sys.exit('torch' in sys.modules)"
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

    def test_images_are_made_and_no_photograph_is_kept(self):
        made = part()
        assert (made.selects_exemplars, made.generates, made.scores) == (False, True, "softmax")
        assert made.size == 0

    @pytest.mark.parametrize(
        ("labels", "recipe"),
        [
            ("hard", {"part": "ce", "average": "labelled"}),
            ("soft", {"part": "teacher_kd"}),
            ("logits", {"part": "teacher_mse"}),
        ],
    )
    def test_terms(self, labels, recipe):
        assert part(labels=labels, weight=3).terms == {"replayed": {**recipe, "weight": 3.0}}

    @pytest.mark.parametrize(
        ("wrong", "message"),
        [
            ({"per_class": 0}, "`per_class` must be >= 1, got 0"),
            ({"share": 0}, r"`share` must lie in \(0, 1\), got 0"),
            ({"share": 1}, r"`share` must lie in \(0, 1\), got 1"),
            ({"weight": -1}, "`weight` must be a finite number >= 0, got -1"),
            ({"weight": math.inf}, "`weight` must be a finite number >= 0, got inf"),
            ({"confidence": 1.5}, r"`confidence` must lie in \[0, 1\], got 1\.5"),
            ({"agreement": -0.5}, r"`agreement` must lie in \[0, 1\], got -0\.5"),
            ({"extra": -1}, "`extra` must be >= 0, got -1"),
            ({"labels": "mean"}, r"labels` must be one of hard, soft, logits"),
            (
                {"inversion": {"weights": {"competition": 0.2}}},
                r"`inversion\.weights\.competition` is 0\.2, and there is nobody .* `student`",
            ),
        ],
    )
    def test_refusals(self, wrong, message):
        with pytest.raises(InputError, match=rf"`method\.replay.*{message}"):
            part(**wrong)
