import json

import numpy as np
import pytest
from PIL import Image
from PIL.Image import Resampling

from cssegcore.core.class_table import ClassTable
from cssegcore.core.normalization import IMAGENET
from cssegcore.data.batches import evaluation_batches
from cssegcore.data.center_crop import CentralCrops, central_crop
from cssegcore.data.dataset import open_dataset
from cssegcore.data.image_list import ImageList
from cssegcore.data.image_store import ImageStore
from cssegcore.evaluation import examples as examples
from tests.helpers import tiny_dataset as scenes
from tests.helpers.tiny_training import CPU


def resized(length, other, size):
    """torchvision's size of a side of a resized image, by its rule for the shorter side."""
    return size if length <= other else int(size * length / other)


class TestCrops:
    @pytest.mark.parametrize(
        ("shape", "tall_wide", "corner"),
        [
            ((375, 500), (512, 682), (0, 85)),
            ((500, 375), (682, 512), (85, 0)),
            ((333, 500), (512, 768), (0, 128)),
            ((334, 500), (512, 766), (0, 127)),
            ((512, 517), (512, 517), (0, 2)),  # 2.5 goes to the even number
            ((519, 512), (519, 512), (4, 0)),  # 3.5 too
            ((512, 512), (512, 512), (0, 0)),
            ((1024, 2048), (512, 1024), (0, 256)),
            ((120, 100), (614, 512), (51, 0)),
        ],
    )
    def test_they_are_torchvision_s(self, shape, tall_wide, corner):
        rng = np.random.default_rng(1)
        photograph = rng.integers(0, 256, (*shape, 3), np.uint8)
        labels = rng.integers(0, 256, shape, np.uint8)
        (tall, wide), (top, left) = tall_wide, corner
        for pixels, how in ((photograph, Resampling.BILINEAR), (labels, Resampling.NEAREST)):
            image = Image.fromarray(pixels).resize((wide, tall), how)
            expected = np.asarray(image.crop((left, top, left + 512, top + 512)))
            assert np.array_equal(central_crop(pixels, 512, how), expected)

    def test_sizes_by_torchvision_s_formulas(self):
        rng = np.random.default_rng(2)
        for height, width in rng.integers(5, 60, (60, 2)).tolist():
            # what tells a pixel's place: rows in one map, columns in another
            rows, columns = np.mgrid[:height, :width].astype(np.uint8)
            tall, wide = resized(height, width, 20), resized(width, height, 20)
            top, left = round((tall - 20) / 2.0), round((wide - 20) / 2.0)
            for pixels in (rows, columns):
                image = Image.fromarray(pixels).resize((wide, tall), Resampling.NEAREST)
                expected = np.asarray(image)[top : top + 20, left : left + 20]
                found = central_crop(pixels, 20, Resampling.NEAREST)
                assert found.shape == (20, 20)
                assert np.array_equal(found, expected)

    def test_a_dataset_is_seen_through_them(self, dataset_root, tmp_path):
        dataset = open_dataset({"name": "x", "root": str(dataset_root), "layout": {"part": "voc"}})
        rng = np.random.default_rng(3)
        for name, size in {"t0": (10, 30), "t1": (30, 12), "t2": (24, 24)}.items():
            Image.fromarray(rng.integers(0, 256, (*size, 3), np.uint8)).save(
                dataset.photograph_path(name)
            )
            Image.fromarray(rng.choice([0, 3, 255], size).astype(np.uint8)).save(
                dataset.label_path(name)
            )
        classes, raw = [["background", "red", "green"], ["blue"]], [[0, 1, 2], [3]]
        image_list = ImageList(
            "step1", 1, ClassTable.of(classes, raw), [3], [["t0", ""], ["t1", ""], ["t2", ""]]
        )
        images = ImageStore(CentralCrops.of(dataset, 16), image_list)
        for name, photograph, labels in images.decoded():
            with Image.open(dataset.photograph_path(name)) as image:
                seen = np.asarray(image)
            expected = central_crop(seen, 16, Resampling.BILINEAR)
            assert np.array_equal(photograph, expected)
            assert np.array_equal(labels, central_crop(dataset.label(name), 16, Resampling.NEAREST))
        ((names, batch),) = evaluation_batches(images, 8, CPU, IMAGENET)  # one size, one batch
        assert names == ["t0", "t1", "t2"]
        assert batch.images.shape == (3, 3, 16, 16)
        said = {name: np.zeros((16, 16), np.uint8) for name in names}
        examples.write_examples(
            tmp_path / "examples", images, examples.choose_examples(images, 2), said
        )
        with Image.open(next((tmp_path / "examples").glob("*.truth.png"))) as image:
            assert image.size == (16, 16)


class TestStages:
    def test_a_test_on_crops_says_so(self, project):
        project.run(*scenes.BEFORE_TRAINING, "train@step0")
        numbers = []
        for view in ("whole", "crop"):
            project.set("evaluation.view", view)
            project.set("evaluation.size", 31)
            assert project.run("evaluate@step0").status == 0
            step = project.folder / "work/step0"
            confusion = json.loads((step / "evaluation/step0/confusion.json").read_text())
            numbers.append(sum(map(sum, confusion["matrix"])))
            protocol = json.loads((step / "metrics.json").read_text())["protocol"]
            said = "whole photographs at their own size"
            crops = "shorter side resized to 31, central crop of 31 by 31"
            assert (said in protocol, crops in protocol) == (view == "whole", view == "crop")
        dataset = open_dataset(project.params["dataset"])
        names = ImageList.read(project.folder / "work/split/step0/test.json").names
        raws = [dataset.label(name) for name in names]
        crops = [central_crop(raw, 31, Resampling.NEAREST) for raw in raws]
        assert numbers == [sum((x != 255).sum() for x in each) for each in (raws, crops)]

    def test_a_crop_of_nothing_is_refused(self, project):
        project.set("evaluation.size", 0)
        assert "`size` must be >= 1, got 0" in project.run("check").refusal()
