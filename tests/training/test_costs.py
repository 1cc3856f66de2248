"""What a step costs, counted by hand."""

import numpy as np
import pytest
import torch

from cssegcore.inversion.request import GeneratedImages
from cssegcore.training.costs import step_costs
from tests.helpers.tiny_training import plan


@pytest.fixture
def trainer(lists, base):
    return lists.prepare(plan("ft"), "step1", base)


def sizes(folder, names):
    return sum(p.stat().st_size for name in names for p in folder.glob(f"*/{name}.*"))


def test_nothing_is_kept_by_fine_tuning_and_all_weights_learn(lists, trainer):
    got = step_costs(trainer, {}, lists.dataset, [], None)
    assert got.kept_bytes == {"exemplars": 0, "made_images": 0, "statistics": 0}
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    tensors = trainer.segmenter.state_dict().items()
    learned = [tensor.numpy().size for name, tensor in tensors if not name.endswith(statistics)]
    assert got.trainable_weights == sum(learned)


def test_frozen_weights_do_not_count(lists, trainer):
    trainer.segmenter.requires_grad_(False)
    trainer.segmenter.groups[-1].requires_grad_(True)
    got = step_costs(trainer, {}, lists.dataset, [], None)
    assert got.trainable_weights == 8 + 1  # a 1x1 convolution on 8 channels, one class


def test_every_kind_of_kept_thing_has_its_bytes(lists, trainer, tmp_path):
    gathered = {"means": torch.zeros(3, 8), "counts": torch.zeros(3, dtype=torch.int64)}
    kept, made = ["t0", "t3"], lists.of("step1")
    model = tmp_path / "model.safetensors"
    model.write_bytes(b"12345")
    images = GeneratedImages(lists.dataset, made, [model], np.zeros(len(made.images), int))
    got = step_costs(trainer, {"prototypes": gathered}, lists.dataset, kept, images)
    assert got.kept_bytes == {
        "exemplars": sizes(lists.dataset.root, kept),
        "made_images": sizes(lists.dataset.root, made.names),
        "statistics": 3 * 8 * 4 + 3 * 8,
    }
    assert got.kept_bytes["exemplars"] > 100
