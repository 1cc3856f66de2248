"""Checks the files of MiB and its baselines: `mib_*.npz`.

The library's losses give means. The maps of the files are checked by calling them on single pixels.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import product

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cssegcore.classifier_init.background import Background
from cssegcore.losses import Pass
from cssegcore.losses.unbiased_ce import unbiased_cross_entropy
from cssegcore.losses.unbiased_kd import unbiased_distillation
from cssegcore.method import Method, Recipe
from tests.conformance.vectors import Arrays, Checked, cases, compare
from tests.tiny import method_section

TERMS = {"FT": {"ce": 0}, "MiB": {"unbiased_ce": 0, "unbiased_kd": 1}}
"""Place of each term of a recipe among the published ones: classification, distillation of logits,
distillation of features, LwF-MC's distillation, total. The recipe is called as the preset, in small
letters."""


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
    """Unbiased distillation: every pixel, mean, gradient.

    A case with a mask is averaged here: no method masks pixels, so the library does not either.
    """
    worst = 0.0
    for at, given, expected in cases(arrays):
        logits, old = _variable(given["logits"]), torch.from_numpy(given["logits_old"])
        alpha = float(given["alpha"])

        def loss(logits: Tensor, old: Tensor, alpha: float = alpha) -> Tensor:
            return unbiased_distillation(logits, old, alpha)

        per_pixel, mean = _map(loss, logits, old), loss(logits, old)
        if "mask" in given:
            per_pixel = per_pixel * torch.from_numpy(given["mask"])
            mean = per_pixel.mean()
        got = {"map": per_pixel, "mean": mean, "grad_logits": _grad(mean, logits)}
        worst = max(worst, compare(_detached(got), expected, f"mib_unkd, case {at}"))
    return Checked(int(arrays["n_cases"]), worst)


def check_mib_classifier_init(arrays: Arrays) -> Checked:
    """Background initialisation: weights, biases, and the logits before and after."""
    worst = 0.0
    for at, given, expected in cases(arrays):
        features = torch.from_numpy(given["features"])
        heads = [_head(given[f"w{j}"], given[f"b{j}"]) for j in range(len(given["n_per_step"]))]
        got = {"logits_old_model": _logits(heads[:-1], features)}
        Background()(heads)
        got["logits_after_init"] = _logits(heads, features)
        for j, head in enumerate(heads):
            assert head.bias is not None
            got |= {f"w{j}": head.weight[:, :, 0, 0], f"b{j}": head.bias}
        worst = max(worst, compare(_detached(got), expected, f"mib_classifier_init, case {at}"))
    return Checked(int(arrays["n_cases"]), worst)


def check_mib_method_totals(arrays: Arrays) -> Checked:
    """The whole objective of a batch, by the recipes in `conf/` and their weights.

    FT and MiB are checked. LWF, LWFMC and ILT join, a line each in `TERMS`, with their parts.
    """
    worst, left_out = 0.0, set[str]()
    methods = {preset: Method.of(Recipe.of(method_section(preset.lower()))) for preset in TERMS}
    for at, given, expected in cases(arrays):
        left_out |= {name.split("_")[0] for name in expected} - TERMS.keys()
        for preset, places in TERMS.items():
            logits = _variable(given["logits"])
            old = torch.from_numpy(given["logits_old"])
            batch = Pass(logits, old, torch.from_numpy(given["labels"]), old.shape[1])
            losses = methods[preset].losses
            assert losses.keys() == places.keys()
            terms = torch.zeros(5)
            for name, loss in losses.items():
                terms[places[name]] = loss.weight * loss(batch)
            terms[4] = terms[:4].sum()
            got = {"terms": terms, "grad_logits": _grad(terms[4], logits)}
            want = {name: expected[f"{preset}_{name}"] for name in got}
            where = f"mib_method_totals, {preset}, case {at}"
            worst = max(worst, compare(_detached(got), want, where))
    return Checked(int(arrays["n_cases"]), worst, f"no recipe yet: {', '.join(sorted(left_out))}")


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


def _head(weight: np.ndarray, bias: np.ndarray) -> nn.Conv2d:
    outputs, depth = weight.shape
    head = nn.Conv2d(depth, outputs, 1)
    head.load_state_dict(
        {"weight": torch.from_numpy(weight)[:, :, None, None], "bias": torch.from_numpy(bias)}
    )
    return head


def _logits(heads: Sequence[nn.Conv2d], features: Tensor) -> Tensor:
    return torch.cat([F.conv2d(features, head.weight, head.bias) for head in heads], 1)
