import colorsys

import numpy as np
import pytest
import torch

from cssegcore.data.augmentation.color_jitter import ColorJitter

EXAMPLE = {"brightness": 0.4, "contrast": 0.5, "saturation": 0.6, "hue": 0.1}
ORDERS = [[0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1]]


@pytest.fixture
def photographs():
    """Random colours, and pixels of grey, black, white and pure colours among them."""
    photographs = np.random.default_rng(1).uniform(0, 255, (3, 3, 6, 6)).astype(np.float32)
    for at, colour in enumerate([(0, 0, 0), (255, 255, 255), (90, 90, 90), (255, 0, 0), (0, 9, 9)]):
        photographs[:, :, 0, at] = colour
    return torch.from_numpy(photographs)


def changed(photographs, factors, turns, orders, **numbers):
    """The photographs after given changes."""
    rows = [[*factors, turn, *order] for turn, order in zip(turns, orders, strict=True)]
    labels = torch.zeros(1, 3, 6, 6, dtype=torch.int64)
    rule = ColorJitter(**EXAMPLE | numbers)
    seen, same = rule.apply(photographs, labels, torch.tensor(rows, dtype=torch.float32), None)
    assert same is labels
    return seen


def by_torchvision(photograph, factors, turn, order):
    """torchvision's functions one after the other, on values of 0 to 1."""
    from torchvision.transforms.v2 import functional as F

    image = photograph / 255
    for change in order:
        if change == 3:
            image = F.adjust_hue(image, turn)
        else:
            names = (F.adjust_brightness, F.adjust_contrast, F.adjust_saturation)
            image = names[change](image, factors[change])
    return image * 255


def by_loops(photograph, factors, turn, order):
    """The formulas one pixel at a time."""
    image = photograph.double().numpy() / 255
    rows, columns = image.shape[1:]
    for change in order:
        grey = 0.2989 * image[0] + 0.587 * image[1] + 0.114 * image[2]
        mean = grey.mean()
        for y in range(rows):
            for x in range(columns):
                pixel = image[:, y, x]
                if change == 3:
                    hue, saturation, value = colorsys.rgb_to_hsv(*pixel)
                    image[:, y, x] = colorsys.hsv_to_rgb((hue + turn) % 1, saturation, value)
                else:
                    other = (0, mean, grey[y, x])[change]
                    blended = factors[change] * pixel + (1 - factors[change]) * other
                    image[:, y, x] = blended.clip(0, 1)
    return torch.from_numpy(image * 255)


@pytest.mark.parametrize("reference", [by_torchvision, by_loops])
@pytest.mark.parametrize("factors", [(1.4, 0.5, 1.6), (0.6, 1.5, 0.0), (1.0, 1.0, 0.4)])
def test_each_image_changes_as_the_reference_in_its_own_order(photographs, factors, reference):
    turns = [0.1, -0.5, 0.0]
    seen = changed(photographs, factors, turns, ORDERS)
    for at in range(3):
        expected = reference(photographs[at], factors, turns[at], ORDERS[at])
        assert (seen[at] - expected).abs().max() < 0.01
    assert len({tuple(one.ravel().tolist()) for one in seen}) == 3


def test_factors_of_one_and_no_turn_change_nothing(photographs):
    seen = changed(photographs, (1.0, 1.0, 1.0), [0.3] * 3, ORDERS, hue=0.0)
    assert torch.equal(seen, photographs)  # the turn is not looked at without `hue`


def test_a_contrast_of_none_leaves_the_mean_grey_in_a_batch_of_any_length(photographs):
    order = [[1, 0, 2, 3]]
    whole = changed(photographs, (1.0, 0.0, 1.0), [0.0] * 3, order * 3)
    grey = torch.einsum("c,bcyx->byx", torch.tensor([0.2989, 0.587, 0.114]), photographs)
    assert (whole - grey.mean((1, 2))[:, None, None, None]).abs().max() < 1e-3


def test_numbers_are_uniform_in_their_ranges_and_orders_alike_often():
    rule = ColorJitter(brightness=0.4, contrast=2.0, saturation=0.0, hue=0.2)
    numbers = rule.draw(6000, np.random.default_rng(1))
    for drawn, (low, high) in zip(
        numbers.T, [(0.6, 1.4), (0, 3), (1, 1), (-0.2, 0.2)], strict=False
    ):
        assert low <= drawn.min() <= low + 0.01 * (high - low)
        assert high - 0.01 * (high - low) <= drawn.max() <= high
        assert abs(drawn.mean() - (low + high) / 2) <= 0.02 * (high - low)
    orders, often = np.unique(numbers[:, 4:], axis=0, return_counts=True)
    assert (np.sort(orders, 1) == np.arange(4)).all()
    assert len(orders) == 24
    assert np.abs(often - 250).max() < 80  # five standard deviations


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        ({"brightness": -0.1}, r"`brightness` must be a finite number >= 0, got -0\.1"),
        ({"contrast": float("inf")}, r"`contrast` must be a finite number >= 0, got inf"),
        ({"saturation": float("nan")}, r"`saturation` must be a finite number >= 0, got nan"),
        ({"hue": 0.6}, r"`hue` must lie in \[0, 0\.5\], got 0\.6"),
    ],
)
def test_senseless_numbers_are_refused(numbers, words):
    with pytest.raises(ValueError, match=words):
        ColorJitter(**numbers)
