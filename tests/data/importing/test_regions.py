import numpy as np
import pytest

from cssegcore.data.importing.regions import decode_rle, fill_polygon


def filled(points, height=12, width=14):
    labels = np.zeros((height, width), np.uint8)
    fill_polygon(labels, np.asarray(points), 7)
    return labels


def test_a_rectangle_covers_the_pixels_between_its_sides():
    labels = filled([(2, 3), (9, 3), (9, 8), (2, 8)])
    assert (labels[3:8, 2:9] == 7).all()
    assert (labels == 7).sum() == 5 * 7


def test_a_pixel_belongs_to_it_if_its_centre_does():
    assert (filled([(2.4, 3.4), (9.4, 3.4), (9.4, 8.4), (2.4, 8.4)]) == 7).sum() == 5 * 7
    assert (filled([(2.6, 3.4), (9.4, 3.4), (9.4, 8.4), (2.6, 8.4)]) == 7).sum() == 5 * 6
    assert not filled([(2.6, 3.6), (3.4, 3.6), (3.4, 4.4), (2.6, 4.4)]).any()


def test_it_is_what_a_point_by_point_search_finds():
    from matplotlib.path import Path

    rng = np.random.default_rng(0)
    ys, xs = np.mgrid[:40, :50]
    for _ in range(5):
        turns = np.sort(rng.uniform(0, 2 * np.pi, 9))  # a star seen from its middle: no crossing
        radii = rng.uniform(5, 25, 9)
        points = np.stack([25 + radii * np.cos(turns), 20 + radii * np.sin(turns)], 1)
        centres = np.stack([xs.ravel() + 0.5, ys.ravel() + 0.5], 1)
        inside = Path(points).contains_points(centres).reshape(40, 50)
        assert np.array_equal(filled(points, 40, 50) == 7, inside)


def test_what_lies_outside_the_image_is_cut_off():
    assert (filled([(-5, -5), (4, -5), (4, 4), (-5, 4)]) == 7).sum() == 16
    assert (filled([(-50, -50), (99, -50), (99, 99), (-50, 99)]) == 7).all()
    assert not filled([(-9, -9), (-2, -9), (-2, -2), (-9, -2)]).any()


def encoded(mask):
    """COCO's text of a mask, by its description: five bits a character, differences from the
    fourth run on."""
    flat = mask.T.ravel().astype(int)
    edges = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff([0, *edges, len(flat)]).tolist()
    if flat[0]:
        runs = [0, *runs]
    text = ""
    for at, run in enumerate(runs):
        value = run - (runs[at - 2] if at > 2 else 0)
        while True:
            bits, value = value & 31, value >> 5
            over = (value == 0 and not bits & 16) or (value == -1 and bits & 16)
            text += chr(48 + (bits | (0 if over else 32)))
            if over:
                break
    return runs, text


@pytest.mark.parametrize("share", [0.02, 0.5, 0.99])
def test_run_lengths_go_down_the_columns(share):
    mask = np.random.default_rng(1).random((37, 53)) < share
    runs, text = encoded(mask)
    assert np.array_equal(decode_rle(runs, 37, 53), mask)
    assert np.array_equal(decode_rle(text, 37, 53), mask)


def test_published_text_of_a_mask():
    # 4x4 pixels, of which the middle four are inside: runs 5 2 2 2 5
    middle = np.zeros((4, 4), bool)
    middle[1:3, 1:3] = True
    assert encoded(middle)[0] == [5, 2, 2, 2, 5]
    assert np.array_equal(decode_rle("52203", 4, 4), middle)


def test_runs_that_do_not_fill_the_mask_are_refused():
    with pytest.raises(ValueError, match="cover 15 pixels, not 16"):
        decode_rle([5, 10], 4, 4)


@pytest.mark.parametrize(
    "counts",
    [
        [2**70, 1],
        [2**62, 2**62, 2**62, 2**62, 12],  # 12 modulo 2**64
        [-1, 13],
        [5.5, 6.5],
        [float("inf")],
        [float("nan"), 12],
    ],
)
def test_a_run_that_is_no_number_of_pixels_is_refused(counts):
    with pytest.raises(ValueError, match="is no number of its 12 pixels"):
        decode_rle(counts, 3, 4)
