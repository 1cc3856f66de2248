"""Noise where a synthesis would write images: inverting a network takes long."""

import shutil
from pathlib import Path

import numpy as np

from cssegcore.core.files import write_json
from cssegcore.inversion import store
from tests.helpers.tiny_training import Lists


def write_noise(lists: Lists, model: Path, folder: Path, count: int) -> Path:
    """Writes random images for step1 whose labels are classes of the base step, or void."""
    rng, images = np.random.default_rng(0), []
    for at in range(count):
        labels = rng.choice([0, 1, 2, 255], (24, 24)).astype(np.uint8)
        image = rng.integers(0, 256, (24, 24, 3), np.uint8)
        images.append(
            store.write_image(folder, store.GeneratedImage(f"m{at}", image, labels, labels, labels))
        )
    store.image_list(lists.of("step1"), 3, images).write(folder / store.LIST)
    steps = [{"step": "step0", "images": [name for name, _ in images]}]
    write_json(folder / "manifest.json", {"images": [], "steps": steps})
    store.teacher_path(folder, "step0").parent.mkdir()
    shutil.copy(model, store.teacher_path(folder, "step0"))
    return folder
