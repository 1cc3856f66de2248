import dataclasses

import numpy as np
import pytest

from cssegcore.data.image_store import ImageStore
from tests.helpers.tiny_training import Lists


def test_labels_are_mapped_when_they_are_read(images):
    for name, photograph, labels in images(8).decoded():
        place = int(name[1:])
        assert labels[0, 0] == 255
        assert (labels.ravel()[1:] == (3 if place % 4 == 2 else 0)).all()
        assert abs(int(photograph[5, 5, 0]) - 30 * place) <= 2


@pytest.fixture(scope="module")
def lists(tmp_path_factory):
    return Lists.write(tmp_path_factory.mktemp("tiny"))


def test_void_is_ignored_or_background(lists):
    image_list = lists.of("step0")
    read = {
        void: {
            name: labels
            for name, _, labels in ImageStore(
                lists.dataset, dataclasses.replace(image_list, void=void)
            ).decoded()
        }
        for void in ("ignore", "background")
    }
    for name in image_list.names:
        raw = lists.dataset.label(name)
        expected = np.where(np.isin(raw, [1, 2]), raw, 0)
        assert (raw == 255).any()
        assert np.array_equal(read["background"][name], expected)
        assert np.array_equal(read["ignore"][name], np.where(raw == 255, 255, expected))
