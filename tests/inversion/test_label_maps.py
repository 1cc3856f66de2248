import collections
import subprocess
import sys

import numpy as np
import pytest

from cssegcore.inversion.label_maps import (
    InversionTargets,
    draw_label_maps,
    draw_targets,
    margin,
    share_out,
)
from cssegcore.inversion.object_shapes import components, procedural, transplanted
from tests.helpers import tiny_dataset as scenes
from tests.helpers.noise_images import generator, outlines

KNOWN = [1, 2, 5, 9]


SIZES = [16, 17, 33, 64]


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
        primaries, label_maps = many(shapes, size)
        assert label_maps.shape == (100, size, size)
        rim = -(-size // 8)
        for primary, label_map in zip(primaries, label_maps, strict=True):
            assert 0.1 <= (label_map > 0).mean() <= 0.45
            assert 0.1 <= (label_map == primary).mean() <= 0.3
            present = set(np.unique(label_map).tolist())
            assert {0, primary} <= present <= {0, *KNOWN}
            assert len(present) <= 4
            for other in present - {0, primary}:
                assert 0.01 <= (label_map == other).mean() <= 0.075
            outside = np.ones((size, size), bool)
            outside[rim : size - rim, rim : size - rim] = False
            assert not label_map[outside].any()

    def test_how_many_further_classes_and_which(self):
        primaries, label_maps = many(procedural, 32, 600)
        pairs = zip(primaries, label_maps, strict=True)
        others = [set(np.unique(label_map).tolist()) - {0, primary} for primary, label_map in pairs]
        counts = collections.Counter(map(len, others))
        # two places at 0.35: 0.4225, 0.455, 0.1225 of the maps; standard deviations up to 0.02
        shares = [counts[n] / 600 for n in range(3)]
        assert shares == pytest.approx([0.4225, 0.455, 0.1225], abs=0.07)
        drawn = collections.Counter(label for labels in others for label in labels)
        assert [drawn[label] / 600 for label in KNOWN] == pytest.approx([0.7 / 4] * 4, abs=0.05)

    def test_sizes_and_places_vary(self, shapes):
        primaries, label_maps = many(shapes, 64, 200)
        pairs = zip(primaries, label_maps, strict=True)
        maps = [label_map == primary for primary, label_map in pairs]
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
        label_maps = draw_label_maps([1] * 300, [1, 2], 32, rectangle, generator())
        shares = [(label_map == 2).mean() for label_map in label_maps]
        assert min(s for s in shares if s) >= 0.01
        assert len([s for s in shares if s]) > 120

    @pytest.mark.parametrize(
        "mask",
        [np.eye(30, dtype=bool), np.ones((1, 40), bool), np.ones((50, 1), bool)],
        ids=["diagonal", "row", "column"],
    )
    def test_too_thin_shapes_make_room_for_blobs(self, mask):
        label_maps = draw_label_maps([1] * 20, [1], 64, transplanted([mask]), generator())
        assert all(0.1 <= (label_map == 1).mean() <= 0.3 for label_map in label_maps)

    @pytest.mark.parametrize("side", [1, 3, 500])
    def test_shapes_of_any_size_are_scaled(self, side):
        label_maps = draw_label_maps(
            [1] * 20, [1], 32, transplanted([np.ones((side, side), bool)]), generator()
        )
        for label_map in label_maps:
            (found,) = components(label_map, [1], 1)
            assert found.all()
            assert 0.1 <= (label_map == 1).mean() <= 0.3

    def test_scaling_keeps_a_symmetric_shape_so(self):
        y, x = np.mgrid[-50:51, -50:51]
        for label_map in draw_label_maps(
            [1] * 20, [1], 64, lambda *_: np.hypot(x, y) < 50.5, generator()
        ):
            (found,) = components(label_map, [1], 1)
            np.testing.assert_array_equal(found, found[::-1])
            np.testing.assert_array_equal(found, found[:, ::-1])

    def test_a_shape_s_own_size_is_kept_where_it_fits(self):
        label_maps = draw_label_maps(
            [1] * 40, [1], 32, lambda *_: np.ones((12, 13), bool), generator()
        )
        assert {int((label_map == 1).sum()) for label_map in label_maps} == {12 * 13}

    def test_a_source_that_gives_nothing_ends_in_blobs(self):
        (label_map,) = draw_label_maps([1], [], 32, lambda *_: np.zeros((4, 4), bool), generator())
        assert 0.1 <= (label_map == 1).mean() <= 0.3

    def test_the_generator_decides_all(self, shapes):
        _, first = many(shapes, 32)
        _, again = many(shapes, 32)
        np.testing.assert_array_equal(first, again)
        _, other = many(shapes, 32, seed=1)
        same = [np.array_equal(a, b) for a, b in zip(first, other, strict=True)]
        assert sum(same) < 5  # rectangles in a small label_map may coincide
        assert len({label_map.tobytes() for label_map in first}) > 90

    def test_the_order_of_the_known_does_not_matter(self):
        first = draw_label_maps([1] * 30, [1, 2, 3], 32, procedural, generator())
        other = draw_label_maps([1] * 30, [3, 1, 2, 2], 32, procedural, generator())
        np.testing.assert_array_equal(first, other)

    def test_no_layouts(self):
        assert draw_label_maps([], [], 16, procedural, generator()).shape == (0, 16, 16)

    def test_a_primary_that_is_not_known_and_the_highest_class(self):
        label_maps = draw_label_maps([254] * 20, [1], 16, procedural, generator())
        assert set(np.unique(label_maps).tolist()) == {0, 1, 254}

    def test_size(self):
        with pytest.raises(ValueError, match="`size` must be >= 16, got 15"):
            draw_label_maps([1], [1], 15, procedural, generator())

    @pytest.mark.parametrize(("primary", "known"), [(0, 1), (255, 1), (1, 0), (1, 255), (1, -1)])
    def test_classes(self, primary, known):
        wrong = primary if primary != 1 else known
        with pytest.raises(ValueError, match=rf"must lie in \[1, 254\], got {wrong}"):
            draw_label_maps([primary], [known], 16, procedural, generator())


class TestTargets:
    def test_with_shapes_they_are_label_maps(self):
        found = draw_targets([1, 5], KNOWN, 32, procedural, generator())
        assert isinstance(found, InversionTargets)
        assert found.primaries.tolist() == [1, 5]
        expected = draw_label_maps([1, 5], KNOWN, 32, procedural, generator())
        np.testing.assert_array_equal(found.label_maps, expected)

    def test_without_shapes_no_pixel_is_asked_for(self):
        found = draw_targets([2, 9, 2], KNOWN, 8, None, generator())
        assert found.primaries.tolist() == [2, 9, 2]
        assert found.label_maps.shape == (3, 8, 8)
        assert found.label_maps.dtype == np.uint8
        assert (found.label_maps == 255).all()


@pytest.mark.parametrize(
    ("missing", "count", "expected"),
    [
        ({3: 2, 4: 2}, 4, [3, 4, 3, 4]),
        ({3: 1, 4: 3}, 4, [4, 4, 3, 4]),
        ({3: 0, 4: 1}, 3, [4, 3, 4]),  # a batch is filled up
        ({7: 5}, 2, [7, 7]),
        ({1: 1, 2: 1}, 0, []),
    ],
)
def test_images_go_to_the_class_that_misses_most(missing, count, expected):
    before = dict(missing)
    assert share_out(missing, count) == expected
    assert missing == before


@pytest.mark.parametrize(("size", "expected"), [(16, 2), (17, 3), (64, 8), (65, 9)])
def test_margin(size, expected):
    assert margin(size) == expected


def test_no_torch():
    code = "import sys, cssegcore.inversion.label_maps; sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-B", "-c", code], cwd=scenes.HOME, check=False)
    assert done.returncode == 0
