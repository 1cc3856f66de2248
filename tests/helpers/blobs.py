"""Truth and predictions of some regions, and what metrics say of them."""

import numpy as np
import torch

from cssegcore.evaluation.meters import Meters, build_metrics
from cssegcore.metrics.counting import confusion_matrix
from cssegcore.metrics.record import Evaluated
from tests.helpers.tiny_training import CPU

CLASSES, SEEN, LEARNED = ["background", "a", "b", "c", "d"], 4, [0, 0, 1, 1, 2]
SIZES = [(2, 17, 23), (1, 30, 12), (3, 9, 9)]


def blobs(rng, shape, classes):
    """Label images with regions of some size."""
    coarse = rng.integers(0, classes, (shape[0], 5, 5))
    rows, columns = (np.arange(size) * 5 // size for size in shape[1:])
    return coarse[:, rows][:, :, columns]


def made_batches():
    """Truth with void and a class to come, and predictions."""
    rng = np.random.default_rng(0)
    made = []
    for shape in SIZES:
        truth, predicted = blobs(rng, shape, len(CLASSES)), blobs(rng, shape, SEEN)
        same = np.where(truth < SEEN, truth, predicted)
        predicted = np.where(rng.random((shape[0], 1, 1)) < 0.5, predicted, np.roll(same, 1, 2))
        truth[rng.random(shape) < 0.02] = 255
        truth[:, :2] = 255
        made.append((truth, predicted))
    return made


def computed(recipes, batches, future="background"):
    """Numbers of metrics after batches; logits are noise, which the shipped ones do not read."""
    meters = Meters(build_metrics(recipes, "evaluation.metrics"), SEEN, future, CPU)
    matrix = torch.zeros(len(CLASSES), SEEN, dtype=torch.int64)
    for truth, predicted in batches:
        pair = torch.from_numpy(truth), torch.from_numpy(predicted)
        meters.update(*pair, torch.randn(len(truth), SEEN, *truth.shape[1:]))
        matrix += confusion_matrix(*pair, len(CLASSES), SEEN)
    meters.gather()
    record = Evaluated("step1", 1, CLASSES, LEARNED, SEEN, 6, matrix.tolist())
    return meters.compute(record)
