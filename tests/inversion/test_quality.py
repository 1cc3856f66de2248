import math

import numpy as np
import pytest
import torch

from cssegcore.core.normalization import IMAGENET
from cssegcore.data.crop_and_resize import normalise
from cssegcore.inversion import quality
from tests.helpers.known_networks import BLUE, GREY, RED, nearest, telling, varied
from tests.helpers.noise_images import VOID
from tests.helpers.tiny_training import new_segmenter


class TestQuality:
    def test_what_is_seen_is_the_average_with_the_mirrored_image(self):
        torch.manual_seed(1)
        segmenter = varied(new_segmenter([4]))
        images = np.random.default_rng(1).integers(0, 256, (3, 16, 16, 3), np.uint8)
        classes, confidence = quality.predict_mirrored(segmenter, images)
        with torch.no_grad():
            one = segmenter(normalise(torch.from_numpy(images), IMAGENET)).logits.double().numpy()
            mirrored = np.ascontiguousarray(images[:, :, ::-1])
            two = segmenter(normalise(torch.from_numpy(mirrored), IMAGENET)).logits.double().numpy()
        scores = np.zeros(one.shape)
        for n, y, x in np.ndindex(3, 16, 16):
            here, there = np.exp(one[n, :, y, x]), np.exp(two[n, :, y, 15 - x])
            scores[n, :, y, x] = (here / here.sum() + there / there.sum()) / 2
        assert np.array_equal(classes, scores.argmax(1))
        assert np.abs(confidence - 255 * scores.max(1)).max() < 0.51
        assert (classes != one.argmax(1)).any()
        assert classes.dtype == confidence.dtype == np.uint8

    @pytest.mark.parametrize("batch_size", [1, 2, 5, 8])
    def test_any_number_of_images_is_assessed_alike(self, batch_size):
        rng, networks = np.random.default_rng(1), {"a": (GREY, RED, BLUE), "b": (RED, GREY, BLUE)}
        images = rng.integers(0, 256, (5, 8, 8, 3), np.uint8)
        labels, asked = (rng.choice([0, 1, 2, VOID], (5, 8, 8)).astype(np.uint8) for _ in range(2))
        batches = (
            quality.LabelledImages(*(values[at : at + batch_size] for values in rows))
            for rows in [(images, labels, asked)]
            for at in range(0, 5, batch_size)
        )
        segmenters = {name: telling(*colours) for name, colours in networks.items()}
        found = quality.assess(batches, segmenters, 3)
        assert found["labelled"] == pytest.approx((labels != VOID).mean())
        for name, colours in networks.items():
            seen = nearest(images, *colours)
            assert found["agreement"][name]["by_class"] == [
                pytest.approx((seen == asked)[asked == label].mean()) for label in range(3)
            ]
        assert found["agreement"]["a"] != found["agreement"]["b"]

    CLASSES = np.array([[0, 1, 2, 3], [0, 1, 2, 3]], np.uint8).reshape(2, 2, 2)
    SURE = np.array([[255, 178, 177, 255], [100, 255, 255, 255]], np.uint8).reshape(2, 2, 2)
    LABEL_MAPS = np.array([[1, 1, 2, 0], [3, VOID, 3, 3]], np.uint8).reshape(2, 2, 2)

    @pytest.mark.parametrize(
        ("least", "by_label_map", "expected"),
        [
            (0.0, False, [[0, 1, 2, 3], [0, 1, 2, 3]]),
            (0.7, False, [[0, 1, VOID, 3], [VOID, 1, 2, 3]]),
            (1.0, False, [[0, VOID, VOID, 3], [VOID, 1, 2, 3]]),
            (0.0, True, [[0, 1, 2, VOID], [0, VOID, VOID, 3]]),
            (0.7, True, [[0, 1, VOID, VOID], [VOID, VOID, VOID, 3]]),
        ],
    )
    def test_what_is_believed(self, least, by_label_map, expected):
        given = (
            self.CLASSES.copy(),
            self.SURE.copy(),
            self.LABEL_MAPS.copy() if by_label_map else None,
        )
        labels = quality.reliable_labels(*given, least)
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
        assert quality.mask_iou(target, found).tolist() == pytest.approx(expected)

    def test_agreement_is_counted(self):
        rng = np.random.default_rng(3)
        asked = rng.choice([0, 0, 1, 2, VOID], (3, 6, 6))
        seen = np.where(rng.random(asked.shape) < 0.6, asked % VOID, rng.integers(0, 4, (3, 6, 6)))
        pairs = list(zip(asked.ravel().tolist(), seen.ravel().tolist(), strict=True))
        matrix = np.zeros((4, 4), np.int64)
        for label, found in pairs:
            if label != VOID:
                matrix[label, found] += 1
        found = quality.agreement(matrix)
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
        matrix = np.zeros((3, 3), np.int64)
        found = quality.agreement(matrix)
        assert (found["target_pixels"], found["miou"]) == (None, None)
        matrix[0, 0] = 16
        assert quality.agreement(matrix)["target_pixels"] is None

    def test_a_network_that_met_just_these_images_is_no_distance_away(self):
        segmenter = telling(GREY, RED)
        images = torch.randn(4, 3, 9, 9, generator=torch.Generator().manual_seed(1))
        norm = segmenter.extractor.backbone[1]
        norm.running_mean.copy_(images.mean((0, 2, 3)))
        norm.running_var.copy_(images.var((0, 2, 3), correction=0))
        assert quality.feature_distance(segmenter, images) == pytest.approx(0, abs=1e-5)
        # by 2 off in every channel's mean; the first normalisation counts once
        assert quality.feature_distance(segmenter, images + 2) == pytest.approx(
            2 * math.sqrt(3), rel=1e-4
        )
        assert all(p.requires_grad for p in segmenter.parameters())
