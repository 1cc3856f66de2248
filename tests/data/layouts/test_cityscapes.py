import shutil

import numpy as np
import pytest
from PIL import Image

from cssegcore.core.errors import InputError
from cssegcore.data.dataset import open_dataset
from cssegcore.data.index import build_index
from tests.helpers import tiny_dataset as scenes
from tests.helpers.laid_out_datasets import conf, put

LABEL_IDS = {
    "road": 7,
    "sidewalk": 8,
    "building": 11,
    "wall": 12,
    "fence": 13,
    "pole": 17,
    "traffic light": 19,
    "traffic sign": 20,
    "vegetation": 21,
    "terrain": 22,
    "sky": 23,
    "person": 24,
    "rider": 25,
    "car": 26,
    "truck": 27,
    "bus": 28,
    "train": 31,
    "motorcycle": 32,
    "bicycle": 33,
}


@pytest.fixture
def cityscapes(tmp_path):
    stored = np.arange(256, dtype=np.uint8).reshape(16, 16)
    for place in ("train/ulm/ulm_000001_000019", "train/aachen/aachen_000002_000019"):
        put_city(tmp_path, place, stored)
    put_city(tmp_path, "train/aachen/aachen_000000_000019", stored)
    put_city(tmp_path, "val/lindau/lindau_000000_000019", stored)
    put(tmp_path / "leftImg8bit/train/ulm/notes.png", "RGB")
    return tmp_path


def put_city(root, name, stored):
    photograph = root / "leftImg8bit" / f"{name}_leftImg8bit.png"
    label = root / "gtFine" / f"{name}_gtFine_labelIds.png"
    for path in (photograph, label):
        path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(stored).convert("RGB").save(photograph)
    Image.fromarray(stored).save(label)


class TestCityscapes:
    def test_names_and_cities(self, cityscapes):
        dataset = open_dataset(conf("cityscapes", cityscapes))
        assert dataset.names("train") == [
            "train/aachen/aachen_000000_000019",
            "train/aachen/aachen_000002_000019",
            "train/ulm/ulm_000001_000019",
        ]
        assert dataset.names("val") == ["val/lindau/lindau_000000_000019"]
        assert dataset.names("test") == dataset.names("val")
        assert list(map(dataset.domain, dataset.names("train"))) == ["aachen", "aachen", "ulm"]

    def test_labels(self, cityscapes):
        dataset = open_dataset(conf("cityscapes", cityscapes))
        labels = dataset.label("train/ulm/ulm_000001_000019").ravel()
        found = {dataset.classes[raw]: at for at, raw in enumerate(labels.tolist()) if raw < 255}
        assert found == LABEL_IDS
        assert list(LABEL_IDS) == list(dataset.classes[1:])
        assert (labels == 255).sum() == 256 - 19
        entry = build_index(dataset, lambda items, _: items)[0]
        assert (entry.pixels, entry.void) == ((0, *[1] * 19), 237)

    @pytest.mark.parametrize(("name", "base"), [("17-2", 17), ("13-6", 13)])
    def test_scenarios(self, name, base):
        params = scenes.composed(f"scenario=cityscapes/{name}")
        steps = params["scenario"]["classes"]
        assert [len(names) for names in steps.values()] == [base, 19 - base]
        assert steps["step0"] + steps["step1"] == list(LABEL_IDS)
        assert params["dataset"]["name"] == "cityscapes"
        assert [(s["epochs"], s["lr"]) for s in params["steps"].values()] == [
            (50, 1e-2),
            (50, 1e-3),
        ]

    def test_a_folder_without_photographs_is_named(self, cityscapes):
        shutil.rmtree(cityscapes / "leftImg8bit" / "val")
        dataset = open_dataset(conf("cityscapes", cityscapes))
        with pytest.raises(InputError, match=r"leftImg8bit/val holds no photograph \(CITY/NAME_"):
            dataset.names("val")
