import numpy as np
import pytest
from PIL import Image

from cssegcore.core.jpeg import save_jpeg
from tests.helpers.tiny_dataset import disk_full_beyond


@pytest.fixture
def photograph():
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8))


@pytest.mark.parametrize("optimize", [False, True])
def test_the_bytes_are_those_of_pillow(tmp_path, photograph, optimize):
    photograph.save(tmp_path / "theirs.jpg", quality=85, optimize=optimize)
    save_jpeg(tmp_path / "ours.jpg", photograph, 85, optimize=optimize)
    assert (tmp_path / "ours.jpg").read_bytes() == (tmp_path / "theirs.jpg").read_bytes()


@pytest.mark.parametrize("share", [0.1, 0.5, 0.999])
def test_a_file_that_the_disk_took_in_part_is_an_error(tmp_path, photograph, share):
    save_jpeg(tmp_path / "whole.jpg", photograph, 90)
    room = int((tmp_path / "whole.jpg").stat().st_size * share)
    with disk_full_beyond(room), pytest.raises(OSError, match="File too large"):
        save_jpeg(tmp_path / "part.jpg", photograph, 90)
