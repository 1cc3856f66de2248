import collections
import subprocess
import sys

import numpy as np
import pytest
from matplotlib.path import Path

from cssegcore.inversion.label_maps import (
    components,
    draw_label_maps,
    margin,
    procedural,
    transplanted,
)
from tests.helpers import tiny_dataset as scenes

KNOWN = [1, 2, 5, 9]
SIZES = [16, 17, 33, 64]


def generator(seed=0):
    return np.random.default_rng(seed)


def outlines():
    """A label map with a rectangle, a ring, a diagonal line and a speck."""
    labels = np.zeros((40, 40), np.uint8)
    labels[2:12, 3:30] = 7
    labels[20:32, 5:17] = 8
    labels[23:29, 8:14] = 0
    labels[np.arange(18, 36), np.arange(20, 38)] = 7
    labels[35:38, 2:4] = 8
    return labels


def sources():
    found = components(outlines(), [7, 8], 2)
    assert len(found) == 4
    return {"procedural": procedural, "transplanted": transplanted(found)}


@pytest.fixture(params=["procedural", "transplanted"])
def shapes(request):
    return sources()[request.param]


def many(shapes, size, n=100, seed=0):
    primaries = [KNOWN[i % len(KNOWN)] for i in range(n)]
    return primaries, draw_label_maps(primaries, KNOWN, size, shapes, generator(seed))


class TestDraw:
    @pytest.mark.parametrize("size", SIZES)
    def test_shares_and_rim(self, shapes, size):
        primaries, layouts = many(shapes, size)
        assert layouts.shape == (100, size, size)
        rim = -(-size // 8)
        for primary, layout in zip(primaries, layouts, strict=True):
            assert 0.1 <= (layout > 0).mean() <= 0.45
            assert 0.1 <= (layout == primary).mean() <= 0.3
            present = set(np.unique(layout).tolist())
            assert {0, primary} <= present <= {0, *KNOWN}
            assert len(present) <= 4
            for other in present - {0, primary}:
                assert 0.01 <= (layout == other).mean() <= 0.075
            outside = np.ones((size, size), bool)
            outside[rim : size - rim, rim : size - rim] = False
            assert not layout[outside].any()

    def test_how_many_further_classes_and_which(self):
        primaries, layouts = many(procedural, 32, 600)
        pairs = zip(primaries, layouts, strict=True)
        others = [set(np.unique(layout).tolist()) - {0, primary} for primary, layout in pairs]
        counts = collections.Counter(map(len, others))
        # two places at 0.35: 0.4225, 0.455, 0.1225 of the layouts; standard deviations up to 0.02
        shares = [counts[n] / 600 for n in range(3)]
        assert shares == pytest.approx([0.4225, 0.455, 0.1225], abs=0.07)
        drawn = collections.Counter(label for labels in others for label in labels)
        assert [drawn[label] / 600 for label in KNOWN] == pytest.approx([0.7 / 4] * 4, abs=0.05)

    def test_sizes_and_places_vary(self, shapes):
        primaries, layouts = many(shapes, 64, 200)
        pairs = zip(primaries, layouts, strict=True)
        maps = [layout == primary for primary, layout in pairs]
        shares = [m.mean() for m in maps]
        assert min(shares) < 0.13
        assert max(shares) > 0.24
        assert len({round(s, 3) for s in shares}) > 60
        seen = np.any(maps, 0)
        assert seen[8:56, 8:56].mean() > 0.9  # blobs seldom fill the corners
        centres = np.array([np.argwhere(m).mean(0) for m in maps])
        assert (centres.std(0) > 3).all()
        assert centres.mean(0) == pytest.approx([31.5, 31.5], abs=2)

    def test_the_primary_is_as_it_would_be_alone(self, shapes):
        """Further objects take from the generator after the primary did."""
        for seed in range(60):
            (crowded,) = draw_label_maps([3], [3, 4, 5], 32, shapes, generator(seed))
            (alone,) = draw_label_maps([3], [3], 32, shapes, generator(seed))
            np.testing.assert_array_equal(crowded == 3, alone == 3)

    def test_further_objects_may_be_covered_in_part_only(self):
        """Half of a further square, or more, is in sight beside the primary."""
        rectangle = transplanted([np.ones((7, 7), bool)])
        layouts = draw_label_maps([1] * 300, [1, 2], 32, rectangle, generator())
        shares = [(layout == 2).mean() for layout in layouts]
        assert min(s for s in shares if s) >= 0.01
        assert len([s for s in shares if s]) > 120

    @pytest.mark.parametrize(
        "mask",
        [np.eye(30, dtype=bool), np.ones((1, 40), bool), np.ones((50, 1), bool)],
        ids=["diagonal", "row", "column"],
    )
    def test_too_thin_shapes_make_room_for_blobs(self, mask):
        layouts = draw_label_maps([1] * 20, [1], 64, transplanted([mask]), generator())
        assert all(0.1 <= (layout == 1).mean() <= 0.3 for layout in layouts)

    @pytest.mark.parametrize("side", [1, 3, 500])
    def test_shapes_of_any_size_are_scaled(self, side):
        layouts = draw_label_maps(
            [1] * 20, [1], 32, transplanted([np.ones((side, side), bool)]), generator()
        )
        for layout in layouts:
            (found,) = components(layout, [1], 1)
            assert found.all()
            assert 0.1 <= (layout == 1).mean() <= 0.3

    def test_scaling_keeps_a_symmetric_shape_so(self):
        y, x = np.mgrid[-50:51, -50:51]
        for layout in draw_label_maps(
            [1] * 20, [1], 64, lambda *_: np.hypot(x, y) < 50.5, generator()
        ):
            (found,) = components(layout, [1], 1)
            np.testing.assert_array_equal(found, found[::-1])
            np.testing.assert_array_equal(found, found[:, ::-1])

    def test_a_shape_s_own_size_is_kept_where_it_fits(self):
        layouts = draw_label_maps(
            [1] * 40, [1], 32, lambda *_: np.ones((12, 13), bool), generator()
        )
        assert {int((layout == 1).sum()) for layout in layouts} == {12 * 13}

    def test_a_source_that_gives_nothing_ends_in_blobs(self):
        (layout,) = draw_label_maps([1], [], 32, lambda *_: np.zeros((4, 4), bool), generator())
        assert 0.1 <= (layout == 1).mean() <= 0.3

    def test_the_generator_decides_all(self, shapes):
        _, first = many(shapes, 32)
        _, again = many(shapes, 32)
        np.testing.assert_array_equal(first, again)
        _, other = many(shapes, 32, seed=1)
        same = [np.array_equal(a, b) for a, b in zip(first, other, strict=True)]
        assert sum(same) < 5  # rectangles in a small layout may coincide
        assert len({layout.tobytes() for layout in first}) > 90

    def test_the_order_of_the_known_does_not_matter(self):
        first = draw_label_maps([1] * 30, [1, 2, 3], 32, procedural, generator())
        other = draw_label_maps([1] * 30, [3, 1, 2, 2], 32, procedural, generator())
        np.testing.assert_array_equal(first, other)

    def test_no_layouts(self):
        assert draw_label_maps([], [], 16, procedural, generator()).shape == (0, 16, 16)

    def test_a_primary_that_is_not_known_and_the_highest_class(self):
        layouts = draw_label_maps([254] * 20, [1], 16, procedural, generator())
        assert set(np.unique(layouts).tolist()) == {0, 1, 254}

    def test_size(self):
        with pytest.raises(ValueError, match="`size` must be at least 16, got 15"):
            draw_label_maps([1], [1], 15, procedural, generator())

    @pytest.mark.parametrize(("primary", "known"), [(0, 1), (255, 1), (1, 0), (1, 255), (1, -1)])
    def test_classes(self, primary, known):
        wrong = primary if primary != 1 else known
        with pytest.raises(ValueError, match=rf"must lie in \[1, 254\], got {wrong}"):
            draw_label_maps([primary], [known], 16, procedural, generator())


@pytest.mark.parametrize(("size", "expected"), [(16, 2), (17, 3), (64, 8), (65, 9)])
def test_margin(size, expected):
    assert margin(size) == expected


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


def test_no_torch():
    code = "import sys, cssegcore.inversion.label_maps; sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-B", "-c", code], cwd=scenes.HOME, check=False)
    assert done.returncode == 0
