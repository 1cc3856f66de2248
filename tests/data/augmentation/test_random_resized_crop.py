import numpy as np
import pytest

from cssegcore.data.augmentation.random_resized_crop import RandomResizedCrop

SIZES = np.array([[40, 60], [60, 40], [33, 33], [7, 90], [90, 7], [1, 1], [1, 50]])


def test_crops_stay_inside_and_keep_to_their_bounds():
    views = RandomResizedCrop(size=8, area=(0.3, 0.9), aspect=(0.5, 2.0))
    sizes = np.repeat([[40, 60], [60, 60], [61, 47]], 300, axis=0)
    boxes = views.draw(sizes, np.random.default_rng(1)).boxes
    top, left, tall, wide = boxes.T
    assert (top >= 0).all()
    assert (left >= 0).all()
    assert (top + tall <= sizes[:, 0]).all()
    assert (left + wide <= sizes[:, 1]).all()
    # each side is rounded by half a pixel at most
    share = tall * wide / sizes.prod(1)
    assert share.min() > 0.3 - 0.02
    assert share.max() < 0.9 + 0.02
    assert 0.33 < np.median(share) < 0.7
    assert (wide / tall > 0.5 - 0.03).all()
    assert (wide / tall < 2 + 0.09).all()
    assert np.abs(np.log(wide / tall)).max() > 0.5
    assert boxes.dtype == np.float64
    assert len(np.unique(boxes, axis=0)) > 500
    assert top.max() > 10  # every place is drawn
    assert left.max() > 10


def test_an_image_in_which_nothing_fits_is_cut_in_the_middle():
    views = RandomResizedCrop(size=8, area=(1.0, 1.0), aspect=(2.0, 3.0))
    boxes = views.draw(SIZES, np.random.default_rng(1)).boxes
    assert boxes.tolist() == [
        [5, 0, 30, 60],  # 60 wide at aspect 2
        [20, 0, 20, 40],
        [8, 0, 16, 33],
        [0, 34, 7, 21],  # too wide: 21 by 7 at aspect 3
        [43, 0, 4, 7],
        [0, 0, 1, 1],  # one pixel has no aspect
        [0, 23, 1, 3],
    ]


def test_the_fallback_is_as_frequent_as_in_the_published_procedure():
    """MiB's spec: about 14 % at 500x375, 28 % at 500x334, 76 % at 2048x1024; accepted boxes
    have 0.66 of the area on average."""
    rule = RandomResizedCrop()
    for (height, width), share in {
        (375, 500): 0.14,
        (334, 500): 0.28,
        (1024, 2048): 0.76,
    }.items():
        sizes = np.tile(np.array([[height, width]]), (2000, 1))
        _, _, tall, wide = rule.draw(sizes, np.random.default_rng(5)).boxes.T
        aspect = min(max(width / height, 3 / 4), 4 / 3)
        central = (tall == height) & (wide == min(width, round(height * aspect)))
        assert abs(central.mean() - share) < 0.03
        if height == 375:
            areas = (tall * wide / (height * width))[~central]
            assert 0.6 < areas.mean() < 0.72


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        ({"size": 0}, r"`size` must be >= 1, got 0"),
        ({"area": (0.0, 1.0)}, r"`area` must be 0 < low <= high, got 0\.0, 1\.0"),
        ({"area": (1.5, 2.0)}, r"`area` starts at 1\.5: no such box fits"),
        ({"aspect": (2.0, 1.0)}, r"`aspect` must be 0 < low <= high, got 2\.0, 1\.0"),
        ({"flip": -0.1}, r"`flip` must lie in \[0, 1\], got -0\.1"),
    ],
)
def test_senseless_numbers_are_refused(numbers, words):
    with pytest.raises(ValueError, match=words):
        RandomResizedCrop(**numbers)
