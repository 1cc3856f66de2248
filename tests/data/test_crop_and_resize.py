import math

import numpy as np
import pytest
import torch

from cssegcore.core.normalization import IMAGENET, Normalization
from cssegcore.data.augmentation import Crops
from cssegcore.data.crop_and_resize import crop_and_resize, normalise


def sampled(photograph, labels, box, flip, size):
    """A view of one image, one target pixel at a time."""
    height, width = labels.shape
    top, left, tall, wide = box
    view, near = np.empty((size, size, 3)), np.empty((size, size), int)
    for row in range(size):
        for column in range(size):
            source = size - 1 - column if flip else column
            y = top + (row + 0.5) * tall / size  # continuous: pixel k covers k to k + 1
            x = left + (source + 0.5) * wide / size
            inside = 0 <= y < height and 0 <= x < width
            near[row, column] = labels[math.floor(y), math.floor(x)] if inside else 255
            # a bilinear weight falls from 1 at a pixel's centre to 0 at its neighbours' centres
            y, x = min(max(y - 0.5, 0), height - 1), min(max(x - 0.5, 0), width - 1)
            rows = np.maximum(0, 1 - np.abs(y - np.arange(height)))
            columns = np.maximum(0, 1 - np.abs(x - np.arange(width)))
            view[row, column] = np.einsum("i,j,ijc", rows, columns, photograph)
    return view, near


def stacked(rng, sizes):
    """Random images put into one block, and the block's padding filled with noise too."""
    tall, wide = np.max(sizes, 0)
    photographs = rng.integers(0, 256, (len(sizes), tall, wide, 3), np.uint8)
    labels = rng.integers(0, 6, (len(sizes), tall, wide), np.uint8)
    return photographs, labels


def test_views_are_those_of_a_pixel_by_pixel_reference():
    rng = np.random.default_rng(5)
    sizes = np.array([[9, 13], [13, 9], [5, 5], [13, 13], [9, 13], [4, 11], [13, 13]])
    photographs, labels = stacked(rng, sizes)
    boxes = np.array(
        [
            [2, 3, 5, 7],  # smaller than the view: magnified
            [0, 0, 13, 9],  # all of it, reduced in one direction
            [-2, -3, 9, 11],  # leaves the image on all sides
            [0.5, 1.25, 11, 11],  # between pixels
            [4, 8, 5, 5],  # up to the corner
            [-6, 9, 8, 30],  # hardly touches it
            [-2, -2, 16, 16],  # target centres fall on borders of pixels: the right one is meant
        ],
        np.float64,
    )
    flips = np.array([False, True, False, True, True, False, False])
    views, maps = crop_and_resize(
        torch.from_numpy(photographs),
        torch.from_numpy(np.stack([labels, 5 - labels], -1)),
        torch.from_numpy(sizes),
        Crops(boxes, flips),
        8,
    )
    near, other = maps
    assert torch.equal(other, torch.where(near == 255, 255, 5 - near))
    for at, (h, w) in enumerate(sizes):
        inside = photographs[at, :h, :w], labels[at, :h, :w]
        view, classes = sampled(*inside, boxes[at], flips[at], 8)
        assert np.array_equal(near[at].numpy(), classes)
        assert np.abs(views[at].numpy() - view).max() < 1e-3
    assert (near[2] == 255).any()
    assert (near[2] != 255).any()
    assert near.dtype == torch.int64


@pytest.mark.parametrize("flip", [False, True])
def test_the_whole_image_at_its_own_size_is_the_image(flip):
    photographs, labels = stacked(np.random.default_rng(6), [(12, 12)])
    views = Crops(np.array([[0.0, 0, 12, 12]]), np.array([flip]))
    sizes = torch.tensor([[12, 12]])
    maps = torch.from_numpy(labels[..., None])
    view, (near,) = crop_and_resize(torch.from_numpy(photographs), maps, sizes, views, 12)
    expected = torch.from_numpy(photographs).float()
    assert torch.equal(view, expected.flip(2) if flip else expected)
    assert np.array_equal(near.numpy(), labels[:, :, ::-1] if flip else labels)


def test_without_a_label_for_it_what_is_added_is_ignored():
    photograph = torch.full((1, 4, 4, 3), 200, dtype=torch.uint8)
    labels = torch.ones(1, 4, 4, 1, dtype=torch.uint8)
    views = Crops(np.array([[-2.0, -2, 8, 8]]), np.array([False]))
    seen, (near,) = crop_and_resize(photograph, labels, torch.tensor([[4, 4]]), views, 8)
    assert np.abs(seen[0].numpy() - 200).max() < 1e-3  # goes on as it ends
    assert near[0, 2:6, 2:6].eq(1).all()
    assert near.eq(255).sum() == 64 - 16


@pytest.mark.parametrize(
    ("normalization", "numbers"),
    [
        (IMAGENET, ((0.485, 0.229), (0.456, 0.224), (0.406, 0.225))),
        (Normalization((0.1, 0.2, 0.0), (0.5, 1.0, 0.25)), ((0.1, 0.5), (0.2, 1.0), (0.0, 0.25))),
    ],
)
def test_network_input_has_the_mean_and_deviation_asked_for(normalization, numbers):
    grey = normalise(torch.full((1, 1, 2, 3), 128, dtype=torch.uint8), normalization)
    expected = [(128 / 255 - m) / s for m, s in numbers]
    assert grey.shape == (1, 3, 1, 2)
    assert torch.allclose(grey[0, :, 0, 1], torch.tensor(expected))
