import collections

import numpy as np
import pytest
from matplotlib.path import Path

from cssegcore.inversion.object_shapes import components, procedural, transplanted
from tests.helpers.noise_images import generator, outlines


class Told(np.random.Generator):
    """Says the middle of a range, and what it was told for the angles."""

    def __init__(self, stretch, angles):
        super().__init__(np.random.PCG64(0))
        self.stretch, self.angles = stretch, angles

    def uniform(self, low=0.0, high=1.0, size=None):
        if size == 2:
            assert (low, high) == (0, 2 * np.pi)
            return self.angles
        return self.stretch if (low, high) == (0.6, 1.6) else (low + high) / 2


class TestProcedural:
    @pytest.mark.parametrize("stretch", [0.6, 1.0, 1.6])
    @pytest.mark.parametrize("angles", [(0.0, 0.0), (1.0, 0.0), (0.0, 2.0), (4.0, 5.5)])
    def test_against_an_outline(self, stretch, angles):
        """The curve, point by point, and what lies inside of it."""
        found = procedural(101, Told(stretch, angles))
        phase, turn = angles
        t = np.linspace(0, 2 * np.pi, 4000, endpoint=False)
        wave = 0.15 * np.cos(3 * (t + phase)) + 0.1 * np.cos(5 * (t + phase))
        radii = 101 * 0.245 * (1 + wave)
        across, down = radii * np.cos(t) * stretch**0.5, radii * np.sin(t) / stretch**0.5
        x = 50 + across * np.cos(turn) - down * np.sin(turn)
        y = 50 + across * np.sin(turn) + down * np.cos(turn)
        grid = [(column, row) for row in range(101) for column in range(101)]
        inside = Path(np.stack([x, y], 1)).contains_points(grid).reshape(101, 101)
        rows, columns = np.nonzero(inside)
        expected = inside[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        assert found.shape == expected.shape
        assert (found != expected).sum() <= 2

    def test_areas_and_boxes(self):
        rng = generator()
        masks = [procedural(64, rng) for _ in range(200)]
        shares = [mask.sum() / 64**2 for mask in masks]
        assert 0.095 < min(shares) < 0.12
        assert 0.28 < max(shares) < 0.315
        for mask in masks:
            assert max(mask.shape) <= 64
            assert mask[0].any()
            assert mask[-1].any()
            assert mask[:, 0].any()
            assert mask[:, -1].any()
            assert len(components(mask.astype(np.uint8), [1], 1)) == 1
        ratios = [mask.shape[0] / mask.shape[1] for mask in masks]
        assert min(ratios) < 0.7
        assert max(ratios) > 1.4


class TestTransplanted:
    MASK = np.array([[1, 1, 1, 1], [1, 0, 0, 0], [1, 0, 0, 0]], bool)

    def test_scales_and_mirrors(self):
        big = self.MASK.repeat(10, 0).repeat(10, 1)
        rng = generator()
        shape = transplanted([big])
        found = [shape(64, rng) for _ in range(300)]
        heights = [mask.shape[0] / 30 for mask in found]
        assert min(heights) == pytest.approx(0.5, abs=0.03)
        assert max(heights) == pytest.approx(1.5, abs=0.03)
        mirrored = [not mask[-1, 0] for mask in found]
        assert 110 < sum(mirrored) < 190
        for mask, turned in zip(found, mirrored, strict=True):
            assert mask.shape[1] == pytest.approx(mask.shape[0] * 4 / 3, abs=1.2)
            seen = mask[:, ::-1] if turned else mask
            assert seen[0].all()
            assert seen[:, 0].all()
            assert not seen[-1, -1]
            assert seen.mean() == pytest.approx(0.5, abs=0.06)

    def test_each_mask_comes(self):
        shape = transplanted([np.ones((20, n), bool) for n in (20, 40, 60)])
        rng = generator()
        ratios = [round(m.shape[1] / m.shape[0]) for m in (shape(64, rng) for _ in range(90))]
        assert min(collections.Counter(ratios)[n] for n in (1, 2, 3)) > 15

    def test_none(self):
        with pytest.raises(ValueError, match="must hold an object; without any, use `procedural`"):
            transplanted([])

    def test_an_empty_mask(self):
        with pytest.raises(ValueError, match="number 1 is empty"):
            transplanted([np.ones((2, 2), bool), np.zeros((2, 2), bool)])


def around(place, shape):
    """The pixels that touch one, and itself."""
    y, x = place
    spots = [(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
    return [(i, j) for i, j in spots if 0 <= i < shape[0] and 0 <= j < shape[1]]


def flood(labels, start):
    stack, pixels = [start], {start}
    while stack:
        for place in around(stack.pop(), labels.shape):
            if place not in pixels and labels[place] == labels[start]:
                pixels.add(place)
                stack.append(place)
    return pixels


def flooded(labels, classes, least):
    """Objects from their first pixels on, row by row."""
    seen, found = set(), []
    for start in np.ndindex(labels.shape):
        if start in seen or labels[start] not in classes:
            continue
        pixels = flood(labels, start)
        seen |= pixels
        if len(pixels) >= least:
            top, left = (min(p[k] for p in pixels) for k in (0, 1))
            bottom, right = (max(p[k] for p in pixels) for k in (0, 1))
            mask = np.zeros((bottom - top + 1, right - left + 1), bool)
            for y, x in pixels:
                mask[y - top, x - left] = True
            found.append(mask)
    return found


def assert_equal(found, expected):
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a, b)


class TestComponents:
    @pytest.mark.parametrize("seed", range(12))
    def test_against_a_flood(self, seed):
        rng = generator(seed)
        shape = rng.integers(1, 30, 2)
        values = rng.choice([0, 1, 2, 255], shape, p=rng.dirichlet([2] * 4)).astype(np.uint8)
        for classes, least in [([1], 1), ([1, 2], 3), ([0, 255], 1), ([1, 2, 0], 6), ([9], 1)]:
            assert_equal(components(values, classes, least), flooded(values, classes, least))

    @pytest.mark.parametrize("share", [0.38, 0.41, 0.45])
    def test_long_winding_objects(self, share):
        """Where pixels begin to hang together across a map, paths are at their longest."""
        labels = (generator(5).random((150, 150)) < share).astype(np.uint8)
        assert_equal(components(labels, [1], 20), flooded(labels, [1], 20))

    def test_a_spiral_is_one(self):
        labels = np.zeros((21, 21), np.uint8)
        y, x, dy, dx = 0, 0, 0, 1
        for arm in (21, 20, 20, 18, 18, 16, 16, 14, 14, 12, 12, 10, 10):
            for _ in range(arm if arm != 21 else 20):
                labels[y, x] = 4
                y, x = y + dy, x + dx
            dy, dx = dx, -dy
        labels[y, x] = 4
        found = components(labels, [4], 1)
        assert_equal(found, flooded(labels, [4], 1))
        assert len(found) == 1

    def test_corners_connect(self):
        assert_equal(components(np.eye(3, dtype=np.uint8), [1], 1), [np.eye(3, dtype=bool)])
        assert_equal(
            components(np.eye(3, dtype=np.uint8)[::-1].copy(), [1], 3),
            [np.eye(3, dtype=bool)[::-1]],
        )

    def test_classes_that_touch_stay_apart(self):
        labels = np.array([[1, 1, 2], [1, 2, 2]], np.uint8)
        assert_equal(
            components(labels, [1, 2], 3),
            [np.array([[1, 1], [1, 0]], bool), np.array([[0, 1], [1, 1]], bool)],
        )

    def test_least_and_nothing(self):
        labels = np.zeros((4, 9), np.uint8)
        labels[1, 2:5] = 3
        assert len(components(labels, [3], 3)) == 1
        assert components(labels, [3], 4) == []
        assert components(labels, [], 1) == []
        assert components(np.full((1, 1), 3, np.uint8), [3], 1)[0].shape == (1, 1)

    def test_the_labels_stay(self):
        labels = outlines()
        before = labels.copy()
        components(labels, [7, 8], 2)[0][:] = False
        np.testing.assert_array_equal(labels, before)
