import numpy as np
import pytest
from PIL import Image

from cssegcore.core.palette import palette, save_labels


def test_colours_are_those_of_pascal_voc():
    published = {
        0: (0, 0, 0),
        1: (128, 0, 0),  # aeroplane
        2: (0, 128, 0),
        8: (64, 0, 0),
        15: (192, 128, 128),  # person
        20: (0, 64, 128),  # tvmonitor
        255: (224, 224, 192),  # void
    }
    assert {label: tuple(palette()[label].tolist()) for label in published} == published
    assert len(np.unique(palette(), axis=0)) == 256


def test_a_label_image_reads_back_and_is_coloured(tmp_path):
    labels = np.array([[0, 1, 255], [20, 7, 3]])
    save_labels(tmp_path / "labels.png", labels)
    with Image.open(tmp_path / "labels.png") as image:
        assert image.mode == "P"
        assert np.array_equal(np.asarray(image), labels)
        assert np.array_equal(np.asarray(image.convert("RGB")), palette()[labels])


@pytest.mark.parametrize("wrong", [-1, 256])
def test_a_value_that_is_no_byte_is_refused(tmp_path, wrong):
    with pytest.raises(ValueError, match=rf"\[0, 255\].*{wrong}"):
        save_labels(tmp_path / "labels.png", np.array([[3, wrong]]))
