"""Checks the files of DeepInversion: `deepinv_*.npz`."""

from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cssegcore.inversion.competition import competition
from cssegcore.inversion.feature_statistics import record_feature_statistics
from cssegcore.inversion.objective import ObjectiveValue, objective
from cssegcore.inversion.priors import image_l2, total_variation_l1, total_variation_l2
from cssegcore.inversion.settings import InversionWeights
from tests.conformance.vectors import Arrays, Checked, cases, compare
from tests.helpers.inversion_formulas import released_factors

PRIORS = {"tv_l1": total_variation_l1, "tv_l2": total_variation_l2, "image_l2": image_l2}
PUBLISHED = {
    "main": "target",
    "bn": "features",
    "tv_l1": "total_variation_l1",
    "tv_l2": "total_variation_l2",
    "l2": "image_l2",
    "adi": "competition",
}
"""The published names of the weights, and ours."""
LAYERS = ("conv1", "bn1", "conv2", "bn2", "fc")


def check_deepinv_image_priors(arrays: Arrays) -> Checked:
    """Total variation by means and by norms, the images' length, and their gradients."""
    worst = 0.0
    for at, given, expected in cases(arrays):
        images = _variable(given["images"])
        got = {name: prior(images) for name, prior in PRIORS.items()}
        got |= {f"grad_{name}": _grad(value, images) for name, value in got.items()}
        where = f"deepinv_image_priors, case {at}"
        worst = max(worst, compare(_detached(got), expected, where))
    return Checked(int(arrays["n_cases"]), worst)


def check_deepinv_bn_features(arrays: Arrays) -> Checked:
    """The distance of each layer, their sum with the first one's multiplier, and its gradient."""
    worst = 0.0
    for at, given, expected in cases(arrays):
        images, network = _variable(given["images"]), _network(given, "")
        factors = released_factors(network, float(given["first_bn_multiplier"]))
        with record_feature_statistics(network, factors) as statistics:
            network(images)
            total = statistics.total()
            per_layer = torch.stack(list(statistics.distances.values()))
        got = {"per_layer": per_layer, "total": total, "grad_images": _grad(total, images)}
        where = f"deepinv_bn_features, case {at}"
        worst = max(worst, compare(_detached(got), expected, where))
    return Checked(int(arrays["n_cases"]), worst)


def check_deepinv_jsd(arrays: Arrays) -> Checked:
    """The competition of two models and its gradients; once more as maps of single pixels."""
    worst = 0.0
    for at, given, expected in cases(arrays):
        student, teacher = (_variable(given[f"logits_{name}"]) for name in ("student", "teacher"))
        temperature = float(given["temperature"])
        value = competition(teacher, student, temperature)
        grad_student, grad_teacher = torch.autograd.grad(value, (student, teacher))
        got = {"competition": value, "grad_student": grad_student, "grad_teacher": grad_teacher}
        where = f"deepinv_jsd, case {at}"
        worst = max(worst, compare(_detached(got), expected, where))
        # the rows as the pixels of one image, (1, c, b, 1)
        maps = [logits.T[None, :, :, None] for logits in (teacher, student)]
        dense = {"competition": competition(*maps, temperature).detach()}
        want = {"competition": expected["competition"]}
        worst = max(worst, compare(dense, want, f"{where}, as a map"))
    return Checked(int(arrays["n_cases"]), worst)


def check_deepinv_total(arrays: Arrays) -> Checked:
    """Every term, their weighted sum, and its gradient; the student's weighs if it has a weight."""
    worst = 0.0
    for at, given, expected in cases(arrays):
        images = _variable(given["images"])
        found = _objective(given, images)
        got = {
            "competition": found.terms["competition"],
            "r_feature": found.terms["features"],
            "tv_l1": found.terms["total_variation_l1"],
            "tv_l2": found.terms["total_variation_l2"],
            "image_l2": found.terms["image_l2"],
            "total": found.total,
            "grad_images": _grad(found.total, images),
        }
        worst = max(worst, compare(_detached(got), expected, f"deepinv_total, case {at}"))
    return Checked(int(arrays["n_cases"]), worst)


def _objective(given: Arrays, images: Tensor) -> ObjectiveValue:
    teacher, student = (_network(given, f"{name}_") for name in ("teacher", "student"))
    weights = InversionWeights(
        **{ours: float(given[f"w_{name}"]) for name, ours in PUBLISHED.items()}
    )
    factors = released_factors(teacher, float(given["first_bn_multiplier"]))
    with record_feature_statistics(teacher, factors) as statistics:
        logits = teacher(images)
        target = F.cross_entropy(logits, torch.from_numpy(given["targets"]))
        features = statistics.total()
        return objective(
            weights, images, target, features, lambda: competition(logits, student(images))
        )


class _Network(nn.Module):
    """The files' classifier: two convolutions, each with normalisation and ReLU; mean; linear."""

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        super().__init__()
        shapes = {layer: state[f"{layer}.weight"].shape for layer in LAYERS}
        (a, n, *_), (b, *_), (c, _) = shapes["conv1"], shapes["conv2"], shapes["fc"]
        self.conv1 = nn.Conv2d(n, a, 3, 1, 1, bias="conv1.bias" in state)
        self.bn1 = nn.BatchNorm2d(a)
        self.conv2 = nn.Conv2d(a, b, 3, 2, 1, bias="conv2.bias" in state)
        self.bn2 = nn.BatchNorm2d(b)
        self.fc = nn.Linear(b, c)
        counted = {f"{name}.num_batches_tracked": torch.tensor(0) for name in ("bn1", "bn2")}
        self.load_state_dict(dict(state) | counted)
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        shallow = self.bn1(self.conv1(images)).relu()
        return self.fc(self.bn2(self.conv2(shallow)).relu().mean((2, 3)))


def _network(given: Arrays, prefix: str) -> _Network:
    starts = {f"{prefix}{layer}_": layer for layer in LAYERS}
    state = {
        f"{layer}.{key.removeprefix(start)}": torch.from_numpy(values)
        for key, values in given.items()
        for start, layer in starts.items()
        if key.startswith(start)
    }
    return _Network(state)


def _variable(values: np.ndarray) -> Tensor:
    return torch.from_numpy(values).requires_grad_()


def _grad(value: Tensor, of: Tensor) -> Tensor:
    return torch.autograd.grad(value, of, retain_graph=True)[0]


def _detached(tensors: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    return {name: tensor.detach().numpy() for name, tensor in tensors.items()}
