"""Whole, resized and tiled photographs."""

import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from cssegcore.core.errors import InputError
from cssegcore.data.crop_and_resize import normalise
from cssegcore.evaluation.score import View, decide, enlarged_rows, intervals, score_photograph
from cssegcore.models.segmenter import class_scores
from tests.helpers.tiny_training import CPU, awake, new_segmenter


def photograph(height, width):
    coarse = np.random.default_rng(0).integers(
        0, 256, (height // 4 + 1, width // 4 + 1, 3), np.uint8
    )
    return coarse.repeat(4, 0).repeat(4, 1)[:height, :width].copy()


@pytest.fixture(scope="module")
def segmenter():
    torch.manual_seed(0)
    return awake(new_segmenter([4])).requires_grad_(False)


def logits(network, pixels):
    return network(normalise(torch.tensor(pixels)[None], network.normalization)).logits


def same(one, other):
    pairs = zip(vars(one).values(), vars(other).values(), strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)


def test_whole(segmenter):
    pixels = photograph(41, 60)
    scored = score_photograph(segmenter, pixels, CPU)
    wanted = logits(segmenter, pixels)
    shares = wanted.softmax(1)[0].double().numpy()
    assert np.array_equal(scored.labels, wanted.argmax(1)[0].numpy())
    assert len(np.unique(scored.labels)) > 1
    assert np.allclose(scored.confidences, shares.max(0), atol=1e-6)
    entropies = -(shares * np.log(shares)).sum(0) / math.log(4)
    assert np.allclose(scored.entropies, entropies, atol=1e-5)


@pytest.mark.parametrize("view", [View(tile=60), View(tile=64, overlap=40), View(tile=500)])
def test_a_photograph_that_fits_one_tile_is_seen_whole(segmenter, view):
    pixels = photograph(41, 60)
    whole = score_photograph(segmenter, pixels, CPU)
    assert same(score_photograph(segmenter, pixels, CPU, view), whole)


def test_each_pixel_of_tiles_is_decided_where_its_border_is_far(segmenter):
    pixels = photograph(50, 90)
    scored = score_photograph(segmenter, pixels, CPU, View(tile=40, overlap=16))
    seen = np.zeros((50, 90), int)
    for top in (0, 10):
        for left in (0, 16, 33, 50):
            part = logits(segmenter, pixels[top : top + 40, left : left + 40])[0].argmax(0).numpy()
            rows = slice(0, 25) if top == 0 else slice(25, 50)
            bounds = {0: (0, 28), 16: (28, 44), 33: (44, 61), 50: (61, 90)}[left]
            own = part[rows.start - top : rows.stop - top, bounds[0] - left : bounds[1] - left]
            assert np.array_equal(scored.labels[rows, slice(*bounds)], own)
            seen[rows, slice(*bounds)] += 1
    assert (seen == 1).all()


@pytest.mark.parametrize("length", [7, 31, 32, 33, 100, 257])
@pytest.mark.parametrize("overlap", [0, 8, 31])
def test_tiles_cover_every_pixel_once(length, overlap):
    found = intervals(length, 32, overlap)
    assert [found[0].first, found[-1].end] == [0, length]
    for one in found:
        assert one.start <= one.first < one.end <= one.stop
        assert one.stop - one.start == min(32, length)
    for one, following in itertools.pairwise(found):
        assert one.end == following.first
        assert one.stop - following.start >= overlap


def test_resized_photographs_are_labelled_at_their_own_size(segmenter):
    pixels = photograph(80, 130)
    scored = score_photograph(segmenter, pixels, CPU, View(size=40))
    small = np.asarray(Image.fromarray(pixels).resize((65, 40), Image.Resampling.BILINEAR))
    large = F.interpolate(logits(segmenter, small), (80, 130), mode="bilinear")
    differ = scored.labels != large.argmax(1)[0].numpy()
    assert differ.mean() < 1e-3
    assert np.allclose(scored.confidences, large.softmax(1).amax(1)[0], atol=1e-5)


@pytest.mark.parametrize("size", [(100, 30), (9, 70), (17, 23)])
def test_rows_are_those_of_the_whole_enlargement(size):
    small = torch.randn(1, 3, 17, 23, generator=torch.Generator().manual_seed(0))
    whole = F.interpolate(small, size, mode="bilinear")
    rows = slice(size[0] // 3, size[0] - 1)
    assert torch.allclose(enlarged_rows(small, size, rows), whole[:, :, rows], atol=1e-5)


@pytest.mark.parametrize("unknown", [None, "softmax", "sigmoid"])
def test_certainty_of_every_kind_of_scores(unknown):
    torch.manual_seed(0)
    network = new_segmenter([4], unknown)
    some = 3 * torch.randn(1, network.outputs, 5, 6)
    labels, confidences, entropies = decide(network, some)
    scores = class_scores(some, unknown)
    assert torch.equal(labels, network.classify(some))
    assert torch.equal(confidences, scores.gather(1, labels[:, None])[:, 0])
    assert ((entropies >= 0) & (entropies <= 1 + 1e-6)).all()
    flat = decide(network, torch.zeros(1, network.outputs, 1, 1))[2]
    if unknown is None:
        assert flat.item() == pytest.approx(1)


@pytest.mark.parametrize(
    ("numbers", "said"),
    [
        ({"size": 9, "tile": 9}, "not both"),
        ({"tile": 9, "overlap": 9}, "cannot overlap by 9"),
        ({"overlap": 3}, "give `tile`"),
    ],
)
def test_what_makes_no_sense_is_refused(numbers, said):
    with pytest.raises(InputError, match=said):
        View(**numbers)
