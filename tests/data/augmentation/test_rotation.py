import math

import numpy as np
import pytest
import torch

from cssegcore.data.augmentation.rotation import Rotation

EXAMPLE = {"degrees": 30}
ANGLES = (0.0, 7.0, -31.0, 90.0, 180.0)


def turned(photographs, labels, angles, padding=None):
    """Images and maps turned to the left by given degrees."""
    rows = [[math.cos(math.radians(a)), math.sin(math.radians(a))] for a in angles]
    return Rotation().apply(photographs, labels, torch.tensor(rows), padding)


def random(count, size):
    rng = np.random.default_rng(5)
    photographs = torch.from_numpy(rng.uniform(1, 255, (count, 3, size, size))).float()
    return photographs, torch.from_numpy(rng.integers(0, 6, (2, count, size, size)))


def source(row, column, angle, size):
    """Where a pixel of the result comes from: turned to the right about the centre."""
    middle, radians = (size - 1) / 2, math.radians(angle)
    up, right = middle - row, column - middle
    back_right = right * math.cos(radians) + up * math.sin(radians)
    back_up = up * math.cos(radians) - right * math.sin(radians)
    return middle - back_up, middle + back_right


@pytest.mark.parametrize("padding", [None, [3, 255, 0, 1, 2]])
@pytest.mark.parametrize("size", [9, 10])
def test_images_and_labels_are_those_of_a_pixel_by_pixel_reference(size, padding):
    photographs, labels = random(len(ANGLES), size)
    added = None if padding is None else torch.tensor(padding)
    seen, moved = turned(photographs, labels, ANGLES, added)
    outside = 0
    for at, angle in enumerate(ANGLES):
        for row in range(size):
            for column in range(size):
                y, x = source(row, column, angle, size)
                edges = [abs((v + 0.5) - round(v + 0.5)) for v in (y, x)]
                if min(edges) < 1e-4:  # on the border of two pixels: either may be meant
                    continue
                inside = -0.5 <= y < size - 0.5 and -0.5 <= x < size - 0.5
                wanted = labels[:, at, math.floor(y + 0.5), math.floor(x + 0.5)] if inside else None
                fill = 255 if padding is None else padding[at]
                expected = [fill] * 2 if wanted is None else wanted.tolist()
                assert moved[:, at, row, column].tolist() == expected
                outside += not inside
                pixel = seen[at, :, row, column]
                if not inside and padding is not None:
                    assert pixel.tolist() == [0, 0, 0]
                    continue
                y, x = min(max(y, 0), size - 1), min(max(x, 0), size - 1)
                rows = np.maximum(0, 1 - np.abs(y - np.arange(size)))
                columns = np.maximum(0, 1 - np.abs(x - np.arange(size)))
                bilinear = np.einsum("i,j,cij", rows, columns, photographs[at].double().numpy())
                assert np.abs(pixel.numpy() - bilinear).max() < 0.01
    assert outside > 10


@pytest.mark.parametrize("angle", ANGLES)
def test_the_inside_is_torchvision_s(angle):
    from torchvision.transforms.v2 import InterpolationMode
    from torchvision.transforms.v2 import functional as F

    photographs, labels = random(1, 17)
    seen, moved = turned(photographs, labels, [angle])
    row, column = np.mgrid[:17, :17] - 8
    disc = torch.from_numpy(np.hypot(row, column) < 7.5)  # turned onto itself
    expected = F.rotate(photographs[0], angle, InterpolationMode.BILINEAR)
    assert (seen[0] - expected)[:, disc].abs().max() < 0.05
    near = F.rotate(labels[:, 0], angle, InterpolationMode.NEAREST)
    assert (moved[:, 0] == near)[:, disc].float().mean() > 0.98  # but for ties


@pytest.mark.parametrize(("angle", "quarters"), [(0.0, 0), (90.0, 1), (180.0, 2), (-90.0, -1)])
def test_quarter_turns_move_pixels_as_they_are(angle, quarters):
    photographs, labels = random(2, 8)
    seen, moved = turned(photographs, labels, [angle] * 2)
    assert (seen - photographs.rot90(quarters, (2, 3))).abs().max() < 1e-3
    inner = slice(1, -1)  # at the border rounding may say outside
    expected = labels.rot90(quarters, (2, 3))
    assert torch.equal(moved[..., inner, inner], expected[..., inner, inner])
    if not quarters:
        assert torch.equal(seen, photographs)
        assert torch.equal(moved, labels)


def test_angles_are_uniform_to_both_sides():
    cosine, sine = Rotation(degrees=40.0).draw(4000, np.random.default_rng(1)).T
    angles = np.degrees(np.arctan2(sine, cosine))
    share = np.histogram(angles, 8, (-40, 40))[0] / 4000
    assert np.abs(angles).max() <= 40
    assert np.abs(share - 1 / 8).max() < 0.03


@pytest.mark.parametrize("degrees", [-1.0, 181.0, float("nan")])
def test_senseless_numbers_are_refused(degrees):
    with pytest.raises(ValueError, match=r"`degrees` must lie in \[0, 180\], got"):
        Rotation(degrees=degrees)
