import numpy as np
import pytest
import torch
from PIL import Image
from PIL.Image import Resampling

from cssegcore.data.augmentation.scale_and_crop import ScaleAndCrop
from cssegcore.data.crop_and_resize import crop_and_resize


def padded(pixels, size):
    """Pads a scaled map or photograph as the release does: the width, then the height, each time
    on all four sides. Returns it and how far its corner has moved."""
    moved = 0
    for axis in (1, 0):
        if pixels.shape[axis] < size:
            more = int((1 + size - pixels.shape[axis]) / 2)
            pixels = np.pad(pixels, [(more, more)] * 2 + [(0, 0)] * (pixels.ndim - 2))
            moved += more
    return pixels, moved


def corners(photograph, scale, size, rng, count):
    """Crops `count` times as published; where each crop starts in the scaled photograph."""
    height, width = (int(length * scale) for length in photograph)
    whole, moved = padded(np.zeros((height, width)), size)
    rows, columns = (length - size for length in whole.shape)
    drawn = [(rng.integers(rows + 1), rng.integers(columns + 1)) for _ in range(count)]
    return np.array(drawn) - moved


class TestPlaces:
    # height, width, scale; the crop has 8 pixels
    CASES = (
        (11, 13, 1.0),  # room to move both ways
        (8, 8, 1.0),  # one place
        (12, 5, 1.0),  # too narrow: padded above and below as well
        (5, 12, 1.0),  # too low: padded left and right as well
        (3, 6, 1.0),  # too narrow, and still too low after that
        (7, 4, 1.0),  # the width's padding makes it high enough
        (7, 7, 1.0),
        (10, 15, 0.77),  # 7.7 by 11.55 pixels
    )

    @pytest.mark.parametrize("case", CASES)
    def test_they_are_those_of_the_published_procedure(self, case):
        *photograph, scale = case
        count = 8000
        rule = ScaleAndCrop(size=8, scale=(scale, scale))
        sizes = np.tile(np.array(photograph, np.int64), (count, 1))
        boxes = rule.draw(sizes, np.random.default_rng(1)).boxes
        ratio = np.array(photograph) / [int(length * scale) for length in photograph]
        assert np.allclose(boxes[:, 2:], 8 * ratio, rtol=1e-12)
        exact = boxes[:, :2] / ratio
        found = np.round(exact).astype(int)
        assert np.abs(exact - found).max() < 1e-9
        expected = corners(photograph, scale, 8, np.random.default_rng(2), count)
        places, often = np.unique(found, axis=0, return_counts=True)
        there, likely = np.unique(expected, axis=0, return_counts=True)
        assert np.array_equal(places, there)
        # both are counts of `count` draws from the same places, each as likely as another
        spread = np.sqrt(count / len(there))
        assert np.abs(often - count / len(there)).max() < 5 * spread
        assert np.abs(often - likely).max() < 7 * spread

    def test_scales_are_uniform_and_sizes_cut_off(self):
        sizes = np.tile(np.array([[375, 500]], np.int64), (4000, 1))
        boxes = ScaleAndCrop(size=513).draw(sizes, np.random.default_rng(3)).boxes
        scaled = 513 * sizes / boxes[:, 2:]
        assert np.abs(scaled - np.round(scaled)).max() < 1e-9
        scaled = np.round(scaled).astype(int)
        assert scaled.min(0).tolist() == [187, 250]
        assert scaled.max(0).tolist() == [749, 999]
        low, high = scaled / sizes, (scaled + 1) / sizes  # where the scale lies
        assert (np.maximum(low[:, 0], low[:, 1]) < np.minimum(high[:, 0], high[:, 1])).all()
        share = np.histogram((scaled[:, 1] + 0.5) / 500, 6, (0.5, 2.0))[0] / len(sizes)
        assert np.abs(share - 1 / 6).max() < 0.03

    def test_the_shorter_side_is_brought_to_a_length_first(self):
        rule = ScaleAndCrop(size=8, scale=(1.5, 1.5), shorter_side=10)
        boxes = rule.draw(np.array([[20, 31], [60, 25]]), np.random.default_rng(0)).boxes
        scaled = np.array([[15, 22], [36, 15]])  # of 10 x 15 and 24 x 10
        expected = 8 * np.array([[20, 31], [60, 25]]) / scaled
        assert np.allclose(boxes[:, 2:], expected)
        with pytest.raises(ValueError, match="shorter_side"):
            ScaleAndCrop(shorter_side=0)

    def test_a_pixel_is_scaled_to_one_and_not_to_none(self):
        sizes = np.array([[1, 1]])
        assert np.isfinite(ScaleAndCrop().draw(sizes, np.random.default_rng(1)).boxes).all()

    @pytest.mark.parametrize(
        ("numbers", "words"),
        [
            ({"size": 0}, r"`size` must be >= 1, got 0"),
            ({"scale": (0.0, 1.0)}, r"`scale` must be 0 < low <= high, got 0\.0, 1\.0"),
            ({"scale": (2.0, 1.0)}, r"`scale` must be 0 < low <= high, got 2\.0, 1\.0"),
            ({"scale": (1.0, float("inf"))}, r"`scale` must be 0 < low <= high, got 1\.0, inf"),
            ({"flip": 1.1}, r"`flip` must lie in \[0, 1\], got 1\.1"),
        ],
    )
    def test_senseless_numbers_are_refused(self, numbers, words):
        with pytest.raises(ValueError, match=words):
            ScaleAndCrop(**numbers)


def halfway(first, length, scaled, size):
    """Which of `size` scaled pixels from `first` on have their centre between two source pixels."""
    return (2 * (first + np.arange(size)) + 1) * length % (2 * scaled) == 0


@pytest.mark.parametrize("flip", [0.0, 1.0])
@pytest.mark.parametrize("scale", [1.0, 1.55, 1.9])
def test_views_are_those_of_pillow(scale, flip):
    """Scaled, padded and cropped by Pillow and NumPy; photographs are rounded to bytes on the
    way, and of two pixels that are equally near a label may be either's."""
    rng = np.random.default_rng(7)
    sizes = [(9, 23), (25, 13), (6, 7), (22, 27)]
    rule = ScaleAndCrop(size=24, scale=(scale, scale), flip=flip)
    views = rule.draw(np.array(sizes), rng)
    photographs = rng.integers(1, 256, (4, 25, 27, 3), np.uint8)
    labels = rng.integers(1, 6, (4, 25, 27, 2), np.uint8)
    added = torch.tensor([0, 1, 0, 9])
    given = (torch.from_numpy(x) for x in (photographs, labels, np.array(sizes)))
    photographs_in, labels_in, sizes_in = given
    seen, maps = crop_and_resize(photographs_in, labels_in, sizes_in, views, 24, added)
    found = set()
    for at, (height, width) in enumerate(sizes):
        scaled = int(width * scale), int(height * scale)
        ratio = np.array([height / scaled[1], width / scaled[0]])
        top, left = np.round(views.boxes[at, :2] / ratio).astype(int)

        def view(pixels, method, fill):
            image = Image.fromarray(pixels[:height, :width]).resize(scaled, method)  # noqa: B023
            one = np.asarray(image).astype(int)
            whole = np.pad(one, [(30, 30)] * 2 + [(0, 0)] * (one.ndim - 2), constant_values=fill)
            crop = whole[30 + top : 54 + top, 30 + left : 54 + left]  # noqa: B023
            return crop[:, ::-1] if flip else crop

        expected = view(photographs[at], Resampling.BILINEAR, 0)
        black = (expected == 0).all(-1)
        assert np.abs(seen[at].numpy() - expected).max() < 1.01
        assert (seen[at].numpy()[black] < 1e-4).all()
        fill = int(added[at])
        either = halfway(top, height, scaled[1], 24)[:, None] | halfway(left, width, scaled[0], 24)
        either = either[:, ::-1] if flip else either
        assert either.mean() < 0.7
        for kind in range(2):
            wanted = view(labels[at, ..., kind].copy(), Resampling.NEAREST, fill)
            differs = maps[kind, at].numpy() != wanted
            assert not (differs & ~either).any()
            assert not (differs & black).any()
            assert (wanted[black] == fill).all()
        found |= {"padded"} if black.any() else {"full"}
    assert found >= {"padded"}
