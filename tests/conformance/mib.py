"""Checks the files of MiB and its baselines: `mib_*.npz`.

The library's losses give means. The maps of the files are checked by calling them on single pixels.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import product

import numpy as np
import torch
from torch import Tensor

from cssegcore.core.registry import build_part
from cssegcore.method.classifier_init.background import FromBackground
from cssegcore.method.losses import Loss
from cssegcore.method.losses.bce import binary_cross_entropy, yes_or_no
from cssegcore.method.losses.bce_kd import binary_distillation
from cssegcore.method.losses.feature_mse import feature_mse
from cssegcore.method.losses.kd import distillation
from cssegcore.method.losses.unbiased_ce import unbiased_cross_entropy
from cssegcore.method.losses.unbiased_kd import unbiased_distillation
from cssegcore.models.heads import Head
from cssegcore.models.heads.linear import Linear
from tests.conformance.vectors import Arrays, Checked, cases, compare
from tests.helpers.loss_inputs import make_inputs
from tests.helpers.tiny_dataset import composed

PRESETS = {
    "FT": ("ft", {"ce": 0}),
    "LWF": ("lwf", {"ce": 0, "kd": 1}),
    "LWFMC": ("lwf_mc", {"bce": 0, "bce_kd": 3}),
    "ILT": ("ilt", {"ce": 0, "kd": 1, "feature_mse": 2}),
    "MiB": ("mib", {"unbiased_ce": 0, "unbiased_kd": 1}),
}
"""The recipe of each published preset, and the place of its terms among the published ones:
classification, distillation of logits, distillation of features, LwF-MC's distillation, total."""


def check_mib_unce(arrays: Arrays) -> Checked:
    """Unbiased cross-entropy: every pixel, mean, gradient."""
    worst = 0.0
    for at, given, expected in cases(arrays):
        logits, labels = _variable(given["logits"]), torch.from_numpy(given["labels"])
        old_cl = int(given["old_cl"])

        def loss(logits: Tensor, labels: Tensor, old_cl: int = old_cl) -> Tensor:
            return unbiased_cross_entropy(logits, labels, old_cl)

        mean = loss(logits, labels)
        got = {"map": _map(loss, logits, labels), "mean": mean, "grad_logits": _grad(mean, logits)}
        worst = max(worst, compare(_detached(got), expected, f"mib_unce, case {at}"))
    return Checked(int(arrays["n_cases"]), worst)


def check_mib_unkd(arrays: Arrays) -> Checked:
    """Unbiased distillation: every pixel, mean, gradient."""
    return _check_distillation(arrays, "mib_unkd", unbiased_distillation)


def check_mib_lwf_kd(arrays: Arrays) -> Checked:
    """Plain distillation: every pixel, mean, gradient."""
    return _check_distillation(arrays, "mib_lwf_kd", distillation)


def _check_distillation(
    arrays: Arrays, name: str, formula: Callable[[Tensor, Tensor, float], Tensor]
) -> Checked:
    """Checks a distillation of logits.

    A case with a mask is averaged here: no method masks pixels, so the library does not either.
    """
    worst = 0.0
    for at, given, expected in cases(arrays):
        logits, old = _variable(given["logits"]), torch.from_numpy(given["logits_old"])
        alpha = float(given["alpha"])

        def loss(logits: Tensor, old: Tensor, alpha: float = alpha) -> Tensor:
            return formula(logits, old, alpha)

        per_pixel, mean = _map(loss, logits, old), loss(logits, old)
        if "mask" in given:
            per_pixel = per_pixel * torch.from_numpy(given["mask"])
            mean = per_pixel.mean()
        got = {"map": per_pixel, "mean": mean, "grad_logits": _grad(mean, logits)}
        worst = max(worst, compare(_detached(got), expected, f"{name}, case {at}"))
    return Checked(int(arrays["n_cases"]), worst)


def check_mib_ilt_feature_mse(arrays: Arrays) -> Checked:
    """Distillation of features: mean, weighted, gradient."""
    worst = 0.0
    for at, given, expected in cases(arrays):
        body = _variable(given["body_new"])
        mse = feature_mse(body, torch.from_numpy(given["body_old"]))
        weighted = float(given["weight"]) * mse
        got = {"mse": mse, "weighted": weighted, "grad_body_new": _grad(weighted, body)}
        worst = max(worst, compare(_detached(got), expected, f"mib_ilt_feature_mse, case {at}"))
    return Checked(int(arrays["n_cases"]), worst)


def check_mib_lwf_mc(arrays: Arrays) -> Checked:
    """LwF-MC in its four modes: combined, disjoint, disjoint but for background, first step."""
    worst = 0.0
    for at, given, expected in cases(arrays):
        logits, labels = _variable(given["logits"]), torch.from_numpy(given["labels"])
        cls, dist = _lwf_mc(int(given["mode"]), logits, labels, given)
        got = {"cls_loss": cls, "total": cls + dist, "grad_logits": _grad(cls + dist, logits)}
        if "logits_old" in given:
            got["dist_loss"] = dist
        if "bce_map" in expected:
            got["bce_map"] = _map(_bce, logits, labels)
        worst = max(worst, compare(_detached(got), expected, f"mib_lwf_mc, case {at}"))
    return Checked(int(arrays["n_cases"]), worst)


def _lwf_mc(mode: int, logits: Tensor, labels: Tensor, given: Arrays) -> tuple[Tensor, Tensor]:
    """Returns classification and weighted distillation."""
    none = torch.zeros(())
    if mode == 3:
        return _bce(logits, labels), none
    old = torch.from_numpy(given["logits_old"])
    if mode == 0:
        weight = float(given["importance"])
        return _bce(logits, labels), weight * binary_distillation(logits, old)
    return _mixed(logits, old, labels, first={1: 0, 2: 1}[mode]), none


def _mixed(logits: Tensor, old: Tensor, labels: Tensor, first: int) -> Tensor:
    """Returns the one loss of LwF-MC's other modes, which no recipe of the library names.

    The old model answers for its outputs from `first` on, the labels for all others.
    """
    k = old.shape[1]
    answered = binary_distillation(logits[:, first:k], old[:, first:])
    asked = torch.cat([logits[:, :first], logits[:, k:]], 1)
    places = torch.tensor([*range(first), *range(k, logits.shape[1])])
    is_yes = labels[:, None] == places[:, None, None]
    no_or_yes = yes_or_no(asked, is_yes.int().argmax(1), is_yes.any(1))
    return answered + no_or_yes.mean()


def _bce(logits: Tensor, labels: Tensor) -> Tensor:
    return binary_cross_entropy(logits, labels, "all")


def check_mib_classifier_init(arrays: Arrays) -> Checked:
    """Background initialisation: weights, biases, and the logits before and after."""
    worst = 0.0
    for at, given, expected in cases(arrays):
        features = torch.from_numpy(given["features"])
        heads = [_head(given[f"w{j}"], given[f"b{j}"]) for j in range(len(given["n_per_step"]))]
        got = {"logits_old_model": _logits(heads[:-1], features)}
        FromBackground()(heads)
        got["logits_after_init"] = _logits(heads, features)
        for j, head in enumerate(heads):
            assert head.classifier.bias is not None
            got |= {f"w{j}": head.classifier.weight[:, :, 0, 0], f"b{j}": head.classifier.bias}
        worst = max(worst, compare(_detached(got), expected, f"mib_classifier_init, case {at}"))
    return Checked(int(arrays["n_cases"]), worst)


def check_mib_method_totals(arrays: Arrays) -> Checked:
    """The whole objective of a batch, by the recipes in `conf/` and their weights."""
    worst = 0.0
    losses = {preset: _losses(recipe) for preset, (recipe, _) in PRESETS.items()}
    for at, given, expected in cases(arrays):
        got = {}
        for preset, (_, places) in PRESETS.items():
            logits = _variable(given["logits"])
            old, labels, body, old_body = (
                torch.from_numpy(given[k]) for k in ("logits_old", "labels", "body_new", "body_old")
            )
            batch = make_inputs(logits, labels, old, last_stage=body, old_body=old_body)
            assert losses[preset].keys() == places.keys()
            terms = torch.zeros(5)
            for name, loss in losses[preset].items():
                terms[places[name]] = loss.weight * loss(batch)
            terms[4] = terms[:4].sum()
            got |= {f"{preset}_terms": terms, f"{preset}_grad_logits": _grad(terms[4], logits)}
        worst = max(worst, compare(_detached(got), expected, f"mib_method_totals, case {at}"))
    return Checked(int(arrays["n_cases"]), worst)


def _losses(recipe: str) -> dict[str, Loss]:
    """Builds the losses of a recipe in `conf/`."""
    section = composed(f"method={recipe}", "published=none")["method"]["losses"]
    return {
        name: build_part("cssegcore.method.losses", Loss, how, name)
        for name, how in section.items()
    }


def _variable(values: np.ndarray) -> Tensor:
    return torch.from_numpy(values).requires_grad_()


def _grad(value: Tensor, logits: Tensor) -> Tensor:
    return torch.autograd.grad(value, logits, retain_graph=True)[0]


def _detached(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach() for name, tensor in tensors.items()}


def _map(loss: Callable[[Tensor, Tensor], Tensor], first: Tensor, second: Tensor) -> Tensor:
    """Calls `loss` on each pixel of two batches; returns shape (b, h, w)."""
    b, h, w = len(first), *first.shape[-2:]
    pixels = [
        loss(*(t[i : i + 1, ..., y : y + 1, x : x + 1] for t in (first, second)))
        for i, y, x in product(range(b), range(h), range(w))
    ]
    return torch.stack(pixels).reshape(b, h, w)


def _head(weight: np.ndarray, bias: np.ndarray) -> Head:
    outputs, depth = weight.shape
    head = Linear().build(depth, outputs)
    head.classifier.load_state_dict(
        {"weight": torch.from_numpy(weight)[:, :, None, None], "bias": torch.from_numpy(bias)}
    )
    return head


def _logits(heads: Sequence[Head], features: Tensor) -> Tensor:
    return torch.cat([head(features) for head in heads], 1)
