"""Features by class as the tests of SDR's parts see them: random scenes, plain loops over pixels,
and the inputs of the released functions' golden values."""

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from cssegcore.method._class_features import nearest_labels
from cssegcore.method.losses import LossInputs
from cssegcore.models.outputs import Features, Outputs

Array = np.ndarray
OLD, ALL, DEPTH = 3, 6, 7


def vectors(features: Array, labels: Array, label: int) -> list[Array]:
    """The feature vectors of a class's pixels, one by one."""
    b, _, h, w = features.shape
    places = [(i, y, x) for i in range(b) for y in range(h) for x in range(w)]
    return [features[i, :, y, x] for i, y, x in places if labels[i, y, x] == label]


def released_vectors(features: Array, labels: Array, label: int, layout: str) -> Array:
    """The same as the released code sees them: image, channel, row, column, then reshaped."""
    b, n, h, w = features.shape
    values = [
        features[i, d, y, x]
        for i in range(b)
        for d in range(n)
        for y in range(h)
        for x in range(w)
        if labels[i, y, x] == label
    ]
    matrix = np.array(values)
    return matrix.reshape(n, -1).T if layout == "n p" else matrix.reshape(-1, n)


def gathered(
    features: Array, labels: Array, label: int, gather: str, layout: str
) -> Array | list[Array]:
    """A class's feature vectors, as intended or as released."""
    if gather == "released":
        return released_vectors(features, labels, label, layout)
    return vectors(features, labels, label)


def mean_square(a: Array, b: Array) -> float:
    """The mean squared difference of two vectors."""
    return math.fsum((x - y) ** 2 for x, y in zip(a, b, strict=True)) / len(a)


def ids(labels: Array, *left_out: int) -> list[int]:
    """The labels that occur."""
    return [int(v) for v in np.unique(labels) if v not in left_out]


def scene(
    seed: int, b: int = 2, h: int = 4, w: int = 3, classes: int = ALL
) -> tuple[Tensor, Tensor, Tensor]:
    """Random features with zeros in them, labels of all kinds, prototypes; float64."""
    rng = np.random.default_rng(seed)
    features = np.maximum(rng.standard_normal((b, DEPTH, h, w)), 0)
    features[:, 0] += 0.1  # no pixel without any feature
    labels = rng.integers(0, classes, (b, h, w))
    labels[rng.random((b, h, w)) < 0.2] = 255
    labels[:, 0, 0] = 0, *[classes - 1] * (b - 1)
    prototypes = rng.random((classes, DEPTH))
    return (
        torch.tensor(features, requires_grad=True),
        torch.tensor(labels),
        torch.tensor(prototypes),
    )


def arrays(*tensors: Tensor) -> list[Array]:
    """The same as arrays."""
    return [t.detach().numpy() for t in tensors]


def sine(k: float, *shape: int) -> Tensor:
    """Flat element i, from 0, is sin(k · (i + 1))."""
    values = np.sin(k * np.arange(1, math.prod(shape) + 1))
    return torch.tensor(values.reshape(shape))


class Golden:
    """Inputs that a formula gives; the released functions ran on them once, in float64."""

    FEATURES, PROTOTYPES = sine(0.9, 2, 8, 2, 2).abs(), sine(0.37, 6, 8).abs()
    OLD_LOGITS = 2 * sine(1.3, 2, 4, 4, 4)
    LABELS = torch.tensor([0, 0, 0, 0, 4, 4, 4, 5, 5, 5, 0])[7 * torch.arange(32) % 11].reshape(
        2, 4, 4
    )
    SMALL = nearest_labels(LABELS, (2, 2))


def two_pixels() -> tuple[Tensor, Tensor, Tensor]:
    """Classes 0 and 1 with a pixel each, at (0, 0) and (3, 4), and prototypes of ones."""
    features = torch.tensor([[0.0, 3.0], [0.0, 4.0]])[None, :, None]
    return features, torch.tensor([[[0, 1]]]), torch.ones(2, 2)


def assert_void_is_nothing(loss: Callable[[Tensor, Tensor, Tensor], Tensor], seed: int = 8) -> None:
    """What stands in ignored pixels moves nothing and is not moved."""
    features, labels, prototypes = scene(seed)
    ignored = (labels == 255)[:, None].expand_as(features)
    poisoned = torch.where(ignored, 1e4, features.detach()).requires_grad_()
    got, wanted = (loss(f, labels, prototypes) for f in (poisoned, features))
    assert torch.allclose(got, wanted, rtol=1e-14)
    (grad,) = torch.autograd.grad(got, poisoned)
    assert (grad[ignored] == 0).all()
    assert (grad[~ignored] != 0).any()


def outputs(body: Tensor, logits: Tensor) -> Outputs:
    """Outputs with these features."""
    return Outputs(logits, logits, Features((), body, body))


def passed(
    body: Tensor, labels: Tensor, prototypes: Tensor, old: int = OLD, seed: int = 0
) -> LossInputs:
    """A batch whose labels are twice as large as its features."""
    rng = torch.Generator().manual_seed(seed)
    b, h, w = labels.shape
    full = labels.repeat_interleave(2, 1).repeat_interleave(2, 2)
    logits, old_logits = (
        torch.randn(b, c, 2 * h, 2 * w, generator=rng) for c in (len(prototypes), old)
    )
    none = torch.full_like(full, 255)  # pseudo-labels are none of these terms' business
    gathered = {"prototypes": {"means": prototypes}}
    return LossInputs(
        outputs(body, logits), outputs(body.detach(), old_logits), none, full, old, gathered
    )
