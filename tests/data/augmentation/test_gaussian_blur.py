import numpy as np
import pytest
import torch

from cssegcore.data.augmentation.gaussian_blur import GaussianBlur

EXAMPLE = {"kernel": 5, "sigma": [0.5, 2.0]}


def blurred(photographs, kernel, sigmas):
    """The photographs blurred by given widths, one each."""
    rows = [GaussianBlur(kernel, (s, s)).draw(1, np.random.default_rng(1))[0] for s in sigmas]
    labels = torch.zeros(1, *photographs[:, 0].shape, dtype=torch.int64)
    numbers = torch.tensor(np.array(rows), dtype=torch.float32)
    seen, same = GaussianBlur(kernel).apply(photographs, labels, numbers, None)
    assert same is labels
    return seen


def by_torchvision(photograph, kernel, sigma):
    from torchvision.transforms.v2 import functional as F

    return F.gaussian_blur(photograph, [kernel, kernel], [sigma, sigma])


def by_loops(photograph, kernel, sigma):
    """Weights by their formula, the border mirrored by NumPy."""
    reach = kernel // 2
    pixels = np.pad(photograph.double().numpy(), [(0, 0)] + [(reach, reach)] * 2, mode="reflect")
    weights, seen = {}, np.zeros(photograph.shape)
    for dy in range(-reach, reach + 1):
        for dx in range(-reach, reach + 1):
            weights[dy, dx] = np.exp(-(dy**2 + dx**2) / (2 * sigma**2))
    height, width = photograph.shape[1:]
    for (dy, dx), weight in weights.items():
        rows = slice(reach + dy, reach + dy + height)
        seen += weight * pixels[:, rows, reach + dx : reach + dx + width]
    return torch.from_numpy(seen / sum(weights.values()))


@pytest.mark.parametrize("reference", [by_torchvision, by_loops])
@pytest.mark.parametrize("kernel", [1, 3, 7])
def test_each_image_is_blurred_as_by_the_reference(kernel, reference):
    photographs = torch.from_numpy(np.random.default_rng(2).uniform(0, 255, (3, 3, 8, 8))).float()
    sigmas = (0.3, 1.0, 4.0)
    seen = blurred(photographs, kernel, sigmas)
    for at, sigma in enumerate(sigmas):
        expected = reference(photographs[at], kernel, sigma)
        assert (seen[at] - expected).abs().max() < 1e-3


def test_a_kernel_may_be_longer_than_the_crop():
    photographs = torch.from_numpy(np.random.default_rng(2).uniform(0, 255, (1, 3, 3, 3))).float()
    expected = by_loops(photographs[0], 11, 2.0)
    assert (blurred(photographs, 11, [2.0])[0] - expected).abs().max() < 1e-3
    assert torch.allclose(blurred(photographs[..., :1, :1], 11, [2.0]), photographs[..., :1, :1])


def test_widths_are_uniform_in_their_range():
    weights = GaussianBlur(3, (0.5, 2.0)).draw(4000, np.random.default_rng(1))
    assert np.allclose(weights.sum(1), 1)
    sigma = np.sqrt(1 / (2 * np.log(weights[:, 1] / weights[:, 0])))
    share = np.histogram(sigma, 5, (0.5, 2.0))[0] / 4000
    assert sigma.min() >= 0.5 - 1e-9
    assert sigma.max() <= 2.0 + 1e-9
    assert np.abs(share - 0.2).max() < 0.04


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        ({"kernel": 4}, r"`kernel` must be odd and >= 1 pixel, got 4"),
        ({"kernel": -1}, r"`kernel` must be odd and >= 1 pixel, got -1"),
        ({"sigma": (0.0, 1.0)}, r"`sigma` must be 0 < low <= high, got 0\.0, 1\.0"),
        ({"sigma": (2.0, 1.0)}, r"`sigma` must be 0 < low <= high, got 2\.0, 1\.0"),
    ],
)
def test_senseless_numbers_are_refused(numbers, words):
    with pytest.raises(ValueError, match=words):
        GaussianBlur(**numbers)
