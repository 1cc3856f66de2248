import pytest

from cssegcore.data.dataset import open_dataset
from cssegcore.data.index import build_index
from tests.helpers.laid_out_datasets import conf, put
from tests.helpers.shared_data import SHARED


class TestCamvid:
    def make(self, root, suffix):
        for part in ("train", "val", "test"):
            put(root / part / f"a{suffix}", "RGB")
            put(root / f"{part}annot" / "a.png")
            put(
                root / f"{part}.txt",
                [f"/SegNet/CamVid/{part}/a.png /SegNet/CamVid/{part}annot/a.png"],
            )
        return open_dataset(conf("camvid", root))

    @pytest.mark.parametrize("suffix", [".jpg", ".png"])
    def test_the_tutorial_s_own_lists_and_photographs(self, tmp_path, suffix):
        dataset = self.make(tmp_path, suffix)
        assert dataset.names("val") == ["val/a"]
        entries = build_index(dataset, lambda items, _: items)
        assert [(e.name, e.pixels[2]) for e in entries] == [
            ("train/a", 12),
            ("val/a", 12),
            ("test/a", 12),
        ]

    def test_the_real_one(self):
        if not (SHARED / "data" / "camvid").is_dir():
            pytest.skip(
                "CamVid is not there; point CSSEGCORE_SHARED to the folder with data/camvid"
            )
        dataset = open_dataset(conf("camvid", SHARED / "data" / "camvid"))
        assert [len(dataset.names(part)) for part in ("train", "val", "test")] == [367, 101, 233]
