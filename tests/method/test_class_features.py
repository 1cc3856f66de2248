import numpy as np
import pytest
import torch

from cssegcore.method._class_features import nearest_labels, released_gather
from tests.helpers.class_scenes import ALL, DEPTH, Golden, arrays, released_vectors, scene, vectors


class TestNearestLabels:
    def test_it_takes_the_first_pixel_of_each_cell(self):
        labels = torch.arange(35).reshape(1, 5, 7)
        assert nearest_labels(labels, (2, 3)).tolist() == [[[0, 2, 4], [14, 16, 18]]]
        assert torch.equal(nearest_labels(labels, (5, 7)), labels)

    def test_labels(self):
        assert Golden.SMALL.tolist() == [[[0, 0], [0, 4]], [[0, 4], [0, 4]]]


class TestReleasedGather:
    @pytest.mark.parametrize("layout", ["n p", "p n"])
    def test_against_plain_loops(self, layout):
        features, labels, _ = scene(5)
        mixed = released_gather(features, labels, layout).detach().numpy()
        for c in range(ALL):
            got = vectors(mixed, labels.numpy(), c)
            expected = released_vectors(*arrays(features, labels), c, layout)
            assert np.array_equal(np.array(got).reshape(-1, DEPTH), expected)

    def test_is_right_for_one_image(self):
        features, labels, _ = scene(6, b=1)
        assert torch.equal(released_gather(features, labels, "n p"), features)
        assert not torch.equal(released_gather(features, labels, "p n"), features)
