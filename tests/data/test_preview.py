"""The picture of a batch: what the training will see, pixel by pixel."""

import numpy as np
import torch
from PIL import Image

from cssegcore.core.class_table import ClassTable
from cssegcore.core.palette import palette
from cssegcore.data.augmentation import Augmentation
from cssegcore.data.batches import training_batches
from cssegcore.data.dataset import open_dataset
from cssegcore.data.image_list import ImageList
from cssegcore.data.image_store import ImageStore
from cssegcore.data.preview import UNCHANGED, first_batch, save_batch
from tests.helpers import tiny_dataset as scenes

SECTION = {
    "part": "random_resized_crop",
    "size": 16,
    "area": [0.4, 1.0],
    "aspect": [0.9, 1.1],
    "flip": 0.5,
}


def test_it_is_the_first_batch_of_the_training(tmp_path):
    root = scenes.make_scenes(tmp_path / "scenes")
    dataset = open_dataset({"name": "x", "root": str(root), "layout": {"part": "voc"}})
    classes = ClassTable.of([["background", "red"], ["green"]], [[0, 1], [2]])
    names = dataset.names("train")
    images = ImageList("step1", 1, classes, [2], [[name, ""] for name in names])
    augmentation = Augmentation.of(SECTION)
    shown = first_batch(dataset, images, augmentation, 3, seed=5)

    rng, store = np.random.default_rng([5, 1, 0]), ImageStore(dataset, images)
    batches = training_batches(store, augmentation, 3, rng, torch.device("cpu"), UNCHANGED)
    batch = next(batches)
    expected = (batch.images.permute(0, 2, 3, 1) * 255).round().to(torch.uint8).numpy()
    np.testing.assert_array_equal(shown.photographs, expected)
    np.testing.assert_array_equal(shown.labels, batch.labels.numpy())
    assert set(np.unique(shown.labels)) <= {0, 2, 255}  # red is background in step 1
    assert len(set(shown.names)) == 3

    save_batch(tmp_path / "batch.png", shown, classes.names)
    with Image.open(tmp_path / "batch.png") as picture:
        colours = {colour for _, colour in picture.convert("RGB").getcolors(1 << 20)}
    assert {tuple(palette()[label].tolist()) for label in np.unique(shown.labels)} <= colours
