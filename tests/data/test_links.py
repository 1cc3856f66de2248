"""Links in a dataset: what DVC does not see behind is refused."""

import shutil
import subprocess

import pytest

from cssegcore.core.errors import InputError
from cssegcore.data.dataset import open_dataset
from cssegcore.data.index import build_index


def entries(root):
    dataset = open_dataset({"name": "x", "root": str(root), "layout": {"part": "voc"}})
    return build_index(dataset, lambda items, _: items)


@pytest.mark.parametrize("folder", ["JPEGImages", "SegmentationClass", "ImageSets/Segmentation"])
def test_a_linked_folder_is_refused_and_the_way_out_works(dataset_root, tmp_path, folder):
    before = entries(dataset_root)
    moved = tmp_path / "elsewhere"
    shutil.move(dataset_root / folder, moved)
    (dataset_root / folder).symlink_to(moved)
    with pytest.raises(
        InputError, match=f"{folder} is a link to a folder, behind which"
    ) as refused:
        entries(dataset_root)
    command = str(refused.value).split("`")[1]
    assert command.startswith("rm ")
    subprocess.run(command, shell=True, check=True)
    assert entries(dataset_root) == before


def test_the_root_itself_and_files_may_be_links(dataset_root, tmp_path):
    before = entries(dataset_root)
    (tmp_path / "link").symlink_to(dataset_root)
    photograph = dataset_root / "JPEGImages" / "t0.jpg"
    photograph.rename(tmp_path / "t0.jpg")
    photograph.symlink_to(tmp_path / "t0.jpg")
    assert entries(tmp_path / "link") == before
