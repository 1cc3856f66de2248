import numpy as np
import pytest
import torch

from cssegcore.data.augmentation.scale_values import ScaleValues

EXAMPLE = {"gain": [0.8, 1.2], "offset": [-10, 10]}


@pytest.mark.parametrize("per_channel", [False, True])
def test_values_are_multiplied_shifted_and_cut_off(per_channel):
    rule = ScaleValues((0.5, 2.0), (-50.0, 50.0), per_channel=per_channel)
    photographs = torch.from_numpy(np.random.default_rng(3).uniform(0, 255, (4, 3, 5, 5))).float()
    labels = torch.zeros(1, 4, 5, 5, dtype=torch.int64)
    drawn = rule.draw(4, np.random.default_rng(4))
    assert drawn.shape == (4, 6 if per_channel else 2)
    numbers = torch.from_numpy(drawn.astype(np.float32))
    seen, same = rule.apply(photographs, labels, numbers, None)
    assert same is labels
    for at in range(4):
        for colour in range(3):
            gain = drawn[at, colour if per_channel else 0]
            offset = drawn[at, 3 + colour if per_channel else 1]
            expected = (gain * photographs[at, colour].double() + offset).clamp(0, 255)
            assert (seen[at, colour] - expected).abs().max() < 1e-3
    assert {0.0, 255.0} <= set(seen.ravel().tolist())


def test_numbers_are_uniform_in_their_ranges():
    drawn = ScaleValues((0.5, 2.0), (-50.0, 10.0)).draw(4000, np.random.default_rng(1))
    for values, limits in zip(drawn.T, [(0.5, 2.0), (-50.0, 10.0)], strict=True):
        share = np.histogram(values, 5, limits)[0] / 4000
        assert np.abs(share - 0.2).max() < 0.04


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        ({"gain": (-0.1, 1.0)}, r"`gain` must be 0 <= low <= high, got -0\.1, 1\.0"),
        ({"gain": (1.2, 1.0)}, r"`gain` must be 0 <= low <= high, got 1\.2, 1\.0"),
        ({"offset": (5.0, -5.0)}, r"`offset` must be -255 <= low <= high <= 255, got 5\.0, -5\.0"),
        ({"offset": (0.0, 256.0)}, r"`offset` must be -255 <= low <= high <= 255, got 0\.0, 256"),
    ],
)
def test_senseless_numbers_are_refused(numbers, words):
    with pytest.raises(ValueError, match=words):
        ScaleValues(**numbers)
