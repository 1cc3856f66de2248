"""Checks the files of PLOP: `plop_*.npz`."""

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cssegcore.method.losses.adaptive_ce import accepted_share, adaptive_cross_entropy
from cssegcore.method.losses.local_pod import LocalPod, local_pod, strip_means
from cssegcore.method.pseudo_labels.entropy import (
    BINS,
    accept,
    entropy_unit,
    histogram,
    relabel,
    released_thresholds,
    scores,
)
from tests.conformance.vectors import Arrays, Checked, cases, compare

SCALES = LocalPod().scales


def check_plop_local_pod(arrays: Arrays) -> Checked:
    """Each map's share of the loss, every gradient, and the strips of the first old map."""
    worst = 0.0
    for at, given, expected in cases(arrays):
        old = [_tensor(given[f"old{j}"]) for j in range(int(given["n_maps"]))]
        new = [_tensor(given[f"new{j}"]).requires_grad_() for j in range(len(old))]
        growth = math.sqrt(given["nb_current"] / given["nb_new"]) if given["use_schedule"] else 1.0
        features, last = (growth * float(given[k]) for k in ("pod_factor", "after_factor"))
        factors = [features] * (len(new) - 1) + [last]
        merge = "trim" if given["extra_channels"] == "trim" else "sum"
        each = local_pod(old, new, factors, merge)
        got = {
            "loss": each.sum(),
            "layer_contrib": each,
            "embedding_old0": _embedding(old[0].square(), SCALES),
            **_grads(each.sum(), {f"grad_new{j}": z for j, z in enumerate(new)}),
        }
        worst = max(worst, compare(_detached(got), expected, f"plop_local_pod, case {at}"))
    return Checked(int(arrays["n_cases"]), worst)


def check_plop_entropy_thresholds(arrays: Arrays) -> Checked:
    """Histograms and thresholds, counted image by image.

    The library keeps rows of the classes that the old model knows; the file's others are classes
    without a pixel.
    """
    worst = 0.0
    for at, given, expected in cases(arrays):
        r, total = int(given["repeat"]), int(given["nb_current"])
        logits = _tensor(given["logits_old"]).repeat(1, 1, r, r)
        labels = _tensor(given["labels"]).repeat(1, r, r)
        unit, shape = entropy_unit(logits.shape[1], total, "released"), (total, BINS["released"])
        counts = torch.zeros(shape, dtype=torch.int64)
        for z, y in zip(logits.split(1), labels.split(1), strict=True):
            counts += histogram(*scores(z, unit), y == 0, shape)
        got = {
            "histograms": counts,
            "thresholds": released_thresholds(counts, float(given["base_threshold"])),
            "max_entropy": math.log(total),
        }
        worst = max(worst, compare(got, expected, f"plop_entropy_thresholds, case {at}"))
    return Checked(int(arrays["n_cases"]), worst)


def check_plop_pseudo_labels(arrays: Arrays) -> Checked:
    """Which pixels are accepted, the final labels, and the cross-entropy on them."""
    worst = 0.0
    for at, given, expected in cases(arrays):
        num_old, logits = given["logits_old"].shape[1], _tensor(given["logits_new"])
        logits.requires_grad_()
        labels, final, valid = _labels(given, int(given["nb_current"]))
        factor = float(given["min_factor"])
        loss = adaptive_cross_entropy(logits, final, labels, num_old, factor)
        got = {
            "background": labels < num_old,
            "valid": valid,
            "labels": final,
            "adaptive": accepted_share(final, labels, num_old, factor),
            "ce_map": F.cross_entropy(logits, final, ignore_index=255, reduction="none"),
            "loss": loss,
            **_grads(loss, {"grad_logits": logits}),
        }
        worst = max(worst, compare(_detached(got), expected, f"plop_pseudo_labels, case {at}"))
    return Checked(int(arrays["n_cases"]), worst)


def check_plop_total_loss(arrays: Arrays) -> Checked:
    """Both terms, their sum, and its gradient, with the numbers of the parts."""
    worst, numbers = 0.0, LocalPod()
    for at, given, expected in cases(arrays):
        num_old, added = int(given["old_cl"]), int(given["nb_new"])
        stages = [f"att{j}" for j in range(sum(k.startswith("att_new") for k in given))]
        old = [_tensor(given[k.replace("att", "att_old")]) for k in stages]
        new = [_tensor(given[k.replace("att", "att_new")]).requires_grad_() for k in stages]
        old.append(_tensor(given["small_old"]))
        new.append(_tensor(given["small_new"]).requires_grad_())
        logits = _tensor(given["logits_new"]).requires_grad_()
        labels, final, _ = _labels(given, num_old + added)
        cls = adaptive_cross_entropy(logits, final, labels, num_old)
        growth = math.sqrt((num_old + added) / added)
        factors = [growth * numbers.factor] * len(stages) + [growth * numbers.last_factor]
        pod = local_pod(old, new, factors, numbers.merge, numbers.scales).sum()
        named = dict(zip(["logits", *stages, "small"], [logits, *new], strict=True))
        grads = _grads(cls + pod, {f"grad_{k}": v for k, v in named.items()})
        got = {"cls": cls, "pod": pod, "total": cls + pod, **grads}
        worst = max(worst, compare(_detached(got), expected, f"plop_total_loss, case {at}"))
    return Checked(int(arrays["n_cases"]), worst)


def _labels(given: Arrays, total: int) -> tuple[Tensor, Tensor, Tensor]:
    """Returns annotated and final labels, and where predictions are accepted, on all pixels."""
    old, labels = _tensor(given["logits_old"]), _tensor(given["labels"])
    uncertainty, predicted = scores(old, entropy_unit(old.shape[1], total, "released"))
    valid = accept(uncertainty, predicted, _tensor(given["thresholds"]))
    return labels, relabel(labels, labels < old.shape[1], predicted, valid), valid


def _embedding(squared: Tensor, scales: Sequence[int]) -> Tensor:
    """Puts the strips into the file's order: by scale and window, first over columns, then rows."""
    across, down = strip_means(squared, scales)  # (b, h, strips, n), (b, strips, w, n)
    vectors, start = [], 0
    for s in scales:
        k = squared.shape[-1] // s
        rows = across[:, : s * k, start : start + s].unflatten(1, (s, k)).permute(0, 1, 3, 4, 2)
        columns = down[:, start : start + s, : s * k].unflatten(2, (s, k)).permute(0, 1, 2, 4, 3)
        vectors.append(torch.cat([rows.flatten(3), columns.flatten(3)], 3).flatten(1))
        start += s
    return torch.cat(vectors, 1)


def _tensor(values: np.ndarray) -> Tensor:
    return torch.from_numpy(values)


def _grads(value: Tensor, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    found = torch.autograd.grad(value, list(inputs.values()), retain_graph=True)
    return dict(zip(inputs, found, strict=True))


def _detached(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach() for name, tensor in tensors.items()}
