import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from cssegcore.inversion.targets import (
    bordered,
    class_weights,
    label_map_objective,
    pooled,
    presence_objective,
)
from tests.helpers.inversion_formulas import gradient, leaf, random


def labels(*shape, seed=0, values=(0, 1, 2, 255)):
    return torch.tensor(np.random.default_rng(seed).choice(values, shape))


def plain_bordered(label_map, border):
    """Each pixel, and all others at most `border` away in both directions."""
    h, w = label_map.shape
    found = label_map.copy()
    for y, x in np.ndindex(h, w):
        rows = range(max(0, y - border), min(h, y + border + 1))
        columns = range(max(0, x - border), min(w, x + border + 1))
        if any(label_map[i, j] != label_map[y, x] for i in rows for j in columns):
            found[y, x] = 255
    return found


class TestBordered:
    @pytest.mark.parametrize("border", [0, 1, 2, 5, 30])
    @pytest.mark.parametrize("dtype", [torch.uint8, torch.int64])
    def test_against_plain_loops(self, border, dtype):
        coarse = labels(3, 4, 5, seed=border, values=(0, 0, 0, 1, 254)).to(dtype)
        label_maps = coarse.repeat_interleave(3, 1).repeat_interleave(4, 2)
        before = label_maps.clone()
        found = bordered(label_maps, border)
        assert found.dtype is dtype
        expected = [plain_bordered(label_map, border) for label_map in label_maps.numpy()]
        np.testing.assert_array_equal(found.numpy(), expected)
        assert torch.equal(label_maps, before)

    def test_by_hand(self):
        row = torch.tensor([0, 0, 0, 0, 3, 3, 3, 3], dtype=torch.uint8).expand(1, 8, 8)
        for border, expected in [
            (1, [0, 0, 0, 255, 255, 3, 3, 3]),
            (2, [0, 0, 255, 255, 255, 255, 3, 3]),
        ]:
            assert bordered(row, border).tolist() == [[expected] * 8]
            assert bordered(row.mT, border).mT.tolist() == [[expected] * 8]

    def test_one_class_and_one_pixel(self):
        assert (bordered(torch.full((1, 6, 7), 4), 2) == 4).all()
        assert bordered(torch.full((1, 1, 1), 4), 3).item() == 4

    def test_images_are_apart(self):
        label_maps = torch.stack([torch.zeros(5, 5), torch.ones(5, 5)]).long()
        assert torch.equal(bordered(label_maps, 1), label_maps)

    def test_border(self):
        with pytest.raises(ValueError, match="`border` must be >= 0, got -1"):
            bordered(torch.zeros(1, 2, 2).long(), -1)


def plain_weights(label_maps, classes):
    pixels = [label for label in label_maps.ravel().tolist() if label < classes]
    raw = [0.0] * classes
    for label in set(pixels):
        raw[label] = (len(pixels) / pixels.count(label)) ** 0.5
    mean = math.fsum(raw[label] for label in pixels) / len(pixels)
    return [weight / mean for weight in raw]


class TestClassWeights:
    @pytest.mark.parametrize("seed", range(4))
    @pytest.mark.parametrize("dtype", [torch.uint8, torch.int64])
    def test_against_plain_loops(self, seed, dtype):
        values = (0, 0, 0, 0, 1, 1, 3, 255)
        label_maps = labels(2, 5, 6, seed=seed, values=values).to(dtype)
        found = class_weights(label_maps, 5)
        assert found.dtype is torch.float32
        assert found.tolist() == pytest.approx(plain_weights(label_maps.numpy(), 5), rel=1e-6)
        assert (found == 0).tolist() == [False, False, True, False, True]

    def test_by_hand(self):
        # 9 and 1 pixels: roots 3 and 1, so weights 10 / (3 · 4) and 10 / (1 · 4)
        label_maps = torch.tensor([0] * 9 + [2] + [255] * 2).reshape(1, 3, 4)
        assert class_weights(label_maps, 3).tolist() == pytest.approx([10 / 12, 0, 10 / 4])

    def test_the_mean_over_labelled_pixels_is_one(self):
        label_maps = labels(4, 9, 9, values=(0, 0, 0, 0, 0, 1, 2, 255))
        weights = class_weights(label_maps, 4)
        assert weights[label_maps[label_maps < 4]].mean().item() == pytest.approx(1)
        counts = torch.stack([(label_maps == c).sum() for c in range(3)])
        products = weights[:3] * counts.sqrt()
        np.testing.assert_allclose(products, products[0], rtol=1e-6)

    def test_one_class(self):
        assert class_weights(torch.full((1, 3, 3), 2), 4).tolist() == [0, 0, 1, 0]

    def test_none_labelled(self):
        assert class_weights(torch.full((1, 3, 3), 255), 3).tolist() == [0, 0, 0]


def plain_objective(logits, label_maps, weights):
    total, n = 0.0, 0
    b, _, h, w = logits.shape
    for i, y, x in np.ndindex(b, h, w):
        label = int(label_maps[i, y, x])
        if label == 255:
            continue
        scores = logits[i, :, y, x].tolist()
        total += weights[label] * (math.log(math.fsum(map(math.exp, scores))) - scores[label])
        n += 1
    return total / n if n else 0.0


class TestLayoutObjective:
    @pytest.mark.parametrize("b", [1, 3])
    @pytest.mark.parametrize("seed", range(3))
    def test_against_plain_loops(self, seed, b):
        logits, label_maps = random(b, 4, 3, 5, seed=seed, scale=2), labels(b, 3, 5, seed=seed)
        weights = random(4, seed=seed + 9).exp()
        found = label_map_objective(logits, label_maps, weights).item()
        expected = plain_objective(logits.numpy(), label_maps.numpy(), weights.tolist())
        assert found == pytest.approx(expected, rel=1e-12)

    def test_by_hand(self):
        # equal scores of 4 classes: log 4 at each pixel; weights 2 and 1, and one pixel ignored
        label_maps = torch.tensor([[[0, 1, 255]]])
        found = label_map_objective(
            torch.zeros(1, 4, 1, 3), label_maps, torch.tensor([2.0, 1, 9, 9])
        )
        assert found.item() == pytest.approx(1.5 * math.log(4))

    def test_with_the_layouts_own_weights_it_is_torch_s_weighted_mean(self):
        logits, label_maps = random(2, 3, 6, 6), labels(2, 6, 6)
        weights = class_weights(label_maps, 3).double()
        expected = F.cross_entropy(logits, label_maps, weights, ignore_index=255).item()
        assert label_map_objective(logits, label_maps, weights).item() == pytest.approx(expected)

    def test_gradient(self):
        label_maps, weights = labels(2, 2, 3), random(4).exp()
        assert torch.autograd.gradcheck(
            lambda logits: label_map_objective(logits, label_maps, weights),
            leaf(random(2, 4, 2, 3)),
        )

    def test_ignored_pixels_do_nothing(self):
        logits, label_maps, weights = random(2, 4, 3, 5), labels(2, 3, 5), torch.ones(4)
        clean = label_map_objective(logits, label_maps, weights)
        ignored = (label_maps == 255)[:, None].expand_as(logits)
        poisoned = leaf(logits.masked_fill(ignored, 1e4))
        found = label_map_objective(poisoned, label_maps, weights)
        assert found == clean
        assert not gradient(found, poisoned)[ignored].any()

    def test_none_labelled(self):
        label_maps = torch.full((2, 3, 5), 255)
        logits = leaf(random(2, 4, 3, 5).float())
        found = label_map_objective(logits, label_maps, class_weights(label_maps, 4))
        assert found == 0
        assert torch.equal(gradient(found, logits), torch.zeros_like(logits))

    def test_one_class_alone(self):
        label_maps = torch.full((1, 3, 5), 1)
        logits = random(1, 4, 3, 5)
        found = label_map_objective(logits, label_maps, class_weights(label_maps, 4)).item()
        assert found == pytest.approx(F.cross_entropy(logits, label_maps).item())

    def test_halves_are_counted_in_float32(self):
        logits, label_maps, weights = random(2, 4, 9, 9).bfloat16(), labels(2, 9, 9), torch.ones(4)
        expected = plain_objective(logits.double().numpy(), label_maps.numpy(), [1.0] * 4)
        plain = label_map_objective(logits, label_maps, weights)
        with torch.autocast("cpu", torch.bfloat16):
            cast = label_map_objective(logits, label_maps, weights)
        for found in (plain, cast):
            assert found.dtype is torch.float32
            assert found.item() == pytest.approx(expected, rel=1e-5)
        halves = leaf(logits)
        slope = gradient(label_map_objective(halves, label_maps, weights), halves)
        assert slope.dtype is torch.bfloat16
        assert slope.isfinite().all()


def plain_pooled(scores, k):
    """Of one class in one image: a list of its scores."""
    return math.log(math.fsum(math.exp(k * s) for s in scores) / len(scores)) / k


class TestPooled:
    @pytest.mark.parametrize("k", [0.3, 1.0, math.e])
    @pytest.mark.parametrize("shape", [(2, 3, 4, 5), (1, 2, 1, 1), (1, 1, 1, 7)])
    def test_against_plain_loops(self, shape, k):
        logits = random(*shape, scale=2)
        expected = [[plain_pooled(c.flatten().tolist(), k) for c in image] for image in logits]
        for found, row in zip(pooled(logits, k), expected, strict=True):
            assert found.tolist() == pytest.approx(row, rel=1e-12)

    def test_by_hand(self):
        # e^(2 · 0) + e^(2 · log 3) = 10, of 2 pixels
        logits = torch.tensor([0.0, math.log(3)]).reshape(1, 1, 1, 2)
        assert pooled(logits, 2.0).item() == pytest.approx(math.log(5) / 2)

    def test_equal_scores_and_the_two_ends(self):
        np.testing.assert_allclose(pooled(torch.full((1, 2, 3, 3), 4.0), 2.0), 4, rtol=1e-6)
        logits = random(2, 3, 6, 6)
        np.testing.assert_allclose(pooled(logits, 1e-7), logits.mean((2, 3)), atol=1e-6)
        np.testing.assert_allclose(pooled(logits, 1e5), logits.amax((2, 3)), atol=1e-4)

    def test_gradient(self):
        assert torch.autograd.gradcheck(lambda z: pooled(z, 1.7), leaf(random(2, 3, 2, 3)))

    def test_large_scores(self):
        found = pooled(torch.tensor([1e4, -1e4]).reshape(1, 1, 1, 2), 2.0)
        assert found.item() == pytest.approx(1e4 - math.log(2) / 2)

    def test_halves_are_summed_in_float32(self):
        logits = random(1, 2, 40, 40).bfloat16()
        with torch.autocast("cpu", torch.bfloat16):
            found = pooled(logits, 1.5)
        assert found.dtype is torch.float32
        expected = [plain_pooled(c.flatten().tolist(), 1.5) for c in logits[0]]
        assert found[0].tolist() == pytest.approx(expected, rel=1e-5)

    @pytest.mark.parametrize("k", [0.0, -1.0, math.inf, math.nan])
    def test_sharpness(self, k):
        with pytest.raises(ValueError, match=f"`sharpness` must be a finite number > 0, got {k}"):
            pooled(torch.zeros(1, 2, 3, 3), k)


class TestPresenceObjective:
    @pytest.mark.parametrize("primaries", [[2, 0, 1], [1]])
    def test_against_plain_loops(self, primaries):
        logits, k = random(len(primaries), 4, 3, 5, scale=2), 1.8
        losses = []
        for image, primary in zip(logits, primaries, strict=True):
            scores = [plain_pooled(c.flatten().tolist(), k) for c in image]
            losses.append(math.log(math.fsum(map(math.exp, scores))) - scores[primary])
        found = presence_objective(logits, torch.tensor(primaries), k).item()
        assert found == pytest.approx(math.fsum(losses) / len(losses), rel=1e-12)

    def test_gradient(self):
        primaries = torch.tensor([2, 0])
        assert torch.autograd.gradcheck(
            lambda z: presence_objective(z, primaries, 1.7), leaf(random(2, 3, 2, 3))
        )

    def test_descent_raises_the_class_everywhere(self):
        logits = leaf(random(2, 3, 4, 4))
        slope = gradient(presence_objective(logits, torch.tensor([2, 0]), 1.5), logits)
        assert (slope[0, 2] < 0).all()
        assert (slope[0, :2] > 0).all()
        assert (slope[1, 0] < 0).all()

    def test_halves(self):
        logits = leaf(random(2, 3, 4, 4).bfloat16())
        found = presence_objective(logits, torch.tensor([2, 0]), 1.5)
        assert found.dtype is torch.float32
        assert gradient(found, logits).isfinite().all()
