"""Checks the files of SDR: `sdr_*.npz`."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from cssegcore.method._class_features import class_distances, nearest_labels
from cssegcore.method.losses.attraction import attraction
from cssegcore.method.losses.prototype_matching import old_classes, prototype_matching
from cssegcore.method.losses.repulsion import repulsion
from cssegcore.method.losses.sparsification import sparsification
from cssegcore.method.statistics import StatisticContext
from cssegcore.method.statistics.prototypes import ClassSetting, Prototypes
from cssegcore.models.outputs import Features, Outputs
from tests.conformance.vectors import Arrays, Checked, cases, compare
from tests.helpers.tiny_training import method_section

GATHERS = {"code": "released", "intended": "intended", "perpixel": "intended"}
"""How features are gathered for the arrays with this prefix."""


def check_sdr_prototypes(arrays: Arrays) -> Checked:
    """The running means after each batch, by the statistic itself."""
    worst = 0.0
    for at, given, expected in cases(arrays):
        wanted = {prefix for prefix in GATHERS if f"{prefix}_prototypes0" in expected}
        got = {}
        for prefix in wanted:
            accumulator = Prototypes(GATHERS[prefix], _setting(given)).start(_scene(given))
            accumulator.state = {
                "means": torch.from_numpy(given["prototypes"]),
                "counts": torch.from_numpy(given["counts"]),
            }
            batches = sum(name.startswith("features") for name in given)
            for batch in range(batches):
                features, labels = (
                    torch.from_numpy(given[f"{name}{batch}"]) for name in ("features", "labels")
                )
                accumulator.update_batch(_outputs(features), labels)
                got[f"labels_down{batch}"] = nearest_labels(labels, features.shape[2:])
                got[f"{prefix}_prototypes{batch}"] = accumulator.state["means"]
                got[f"{prefix}_counts{batch}"] = accumulator.state["counts"]
        worst = max(worst, compare(got, expected, f"sdr_prototypes, case {at}"))
    return Checked(int(arrays["n_cases"]), worst)


def check_sdr_prototype_matching(arrays: Arrays) -> Checked:
    """Which pixels are matched, and the loss by both gathers and averages, with gradients."""
    worst = 0.0
    for at, given, expected in cases(arrays):
        features, annotated, old, prototypes = (
            torch.from_numpy(given[name])
            for name in ("features", "labels", "logits_old", "prototypes")
        )
        assert old.shape[1] == given["old_cl"]
        average = "classes" if given["sum_after"] else "pixels"
        labels = old_classes(annotated, old, features.shape[2:], bool(given["sequential"]))
        got = {"pseudo_down": labels}
        for prefix in ("code", "intended"):
            features.requires_grad_()
            loss = prototype_matching(features, labels, prototypes, average, GATHERS[prefix])
            got |= {
                f"{prefix}_loss": loss,
                f"{prefix}_grad_features": torch.autograd.grad(loss, features)[0],
            }
        where = f"sdr_prototype_matching, case {at}"
        worst = max(worst, compare(_detached(got), expected, where))
    return Checked(int(arrays["n_cases"]), worst)


def check_sdr_contrastive(arrays: Arrays) -> Checked:
    """Attraction and repulsion by both gathers, with gradients; and the terms of single classes.

    All attractions of the file are nested; the plain mean is held against the file's terms of
    classes. Which of the two act in a base step, where the file has 0, the recipe says.
    """
    worst, recipe = 0.0, method_section("sdr")
    for at, given, expected in cases(arrays):
        features, prototypes = (torch.from_numpy(given[n]) for n in ("features", "prototypes"))
        labels = nearest_labels(torch.from_numpy(given["labels"]), features.shape[2:])
        active = (recipe if given["step"] > 0 else recipe["base"])["losses"]
        features.requires_grad_()
        got, want = {}, dict(expected)
        for prefix in ("code", "perpixel"):
            gather = GATHERS[prefix]
            terms = {
                "attraction": attraction(features, labels, prototypes, "nested", gather),
                "repulsion": repulsion(features, labels, len(prototypes), gather),
            }
            for name, term in terms.items():
                loss = term if name in active else 0 * features.sum()
                got[f"{prefix}_{name}"] = loss
                got[f"{prefix}_grad_{name}"] = torch.autograd.grad(loss, features)[0]
        if "class_mse" in expected:
            distances, counts = class_distances(features, labels, prototypes)
            got["class_ids"] = counts.nonzero()[:, 0]
            got["class_mse"] = distances[counts > 0]
            got["plain mean"] = attraction(features, labels, prototypes)
            want["plain mean"] = expected["class_mse"].sum() / max(expected["class_mse"].size, 1)
        worst = max(worst, compare(_detached(got), want, f"sdr_contrastive, case {at}"))
    return Checked(int(arrays["n_cases"]), worst)


def check_sdr_sparsification(arrays: Arrays) -> Checked:
    """The loss and its gradient."""
    worst = 0.0
    for at, given, expected in cases(arrays):
        features = torch.from_numpy(given["features"])
        labels = nearest_labels(torch.from_numpy(given["labels"]), features.shape[2:])
        loss = sparsification(features.requires_grad_(), labels)
        got = {
            "labels_down": labels,
            "loss": loss,
            "grad_features": torch.autograd.grad(loss, features)[0],
        }
        worst = max(worst, compare(_detached(got), expected, f"sdr_sparsification, case {at}"))
    return Checked(int(arrays["n_cases"]), worst)


def _setting(given: Arrays) -> ClassSetting:
    """The flags decide in this order: overlapped, sequential, else disjoint."""
    if given["overlapped"]:
        return "overlapped"
    return "sequential" if given["sequential"] else "disjoint"


def _scene(given: Arrays) -> StatisticContext:
    """A training whose state is set afterwards; it asks nothing of a step before."""
    outputs, depth = given["prototypes"].shape
    return StatisticContext(int(given["step"]), {}, outputs, num_old=1, depth=depth, previous=None)


def _outputs(features: Tensor) -> Outputs:
    """A network's outputs of which only the body matters."""
    none = features[:, :1]
    return Outputs(none, none, Features((), features, none))


def _detached(tensors: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    return {name: tensor.detach().numpy() for name, tensor in tensors.items()}
