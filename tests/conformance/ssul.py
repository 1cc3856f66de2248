"""Checks the files of SSUL: `ssul_*.npz`."""

from collections.abc import Mapping
from itertools import product

import numpy as np
import torch
from torch import Tensor

from cssegcore.core.class_table import ClassTable
from cssegcore.core.types import BACKGROUND, IGNORE
from cssegcore.data.image_list import ImageList
from cssegcore.method._confident_labels import confident_labels
from cssegcore.method.classifier_init.unknown import FromUnknown
from cssegcore.method.losses.bce import binary_cross_entropy
from cssegcore.method.losses.ce import cross_entropy
from cssegcore.method.replay.exemplars import Exemplars, choose, contains, orders
from cssegcore.method.unknown_class import Unknown
from cssegcore.method.unknown_class.everything import Everything
from cssegcore.method.unknown_class.none import NoUnknown
from cssegcore.method.unknown_class.salient import Salient
from cssegcore.models.heads import Head
from cssegcore.models.heads.conv import Conv
from cssegcore.models.segmenter import classify
from tests.conformance.vectors import Arrays, Checked, cases, compare

RULES: dict[str, Unknown] = {"voc": Salient(), "ade": Everything()}
LAYERS = {"0": "convolution", "1": "norm", "3": "classifier"}
"""The published layers of a head, and ours."""


def check_ssul_labels(arrays: Arrays) -> Checked:
    """Raw labels to network outputs, with the unknown class and without.

    Only training labels make room for the unknown class. Those of exemplars are checked as the
    released code reads them, without.
    """
    worst = 0.0
    for at, given, expected in cases(arrays):
        order, image_set = given["class_order"], str(given["image_set"])
        visible = {
            "train": given["current_classes"],
            "val": given["current_classes"],
            "memory": np.union1d(given["current_classes"], given["past_classes"]),
            "test": order,
        }[image_set]
        table = _step_list(order, visible).label_table()
        raw = given["raw"]
        if image_set == "test":  # our readers refuse ids beyond the class table
            raw = np.where(np.isin(raw, order), raw, IGNORE)
        shifted = {"train": True, "memory": Exemplars(labels="released").uses_unknown_class}
        rule = RULES[str(given["dataset"])] if shifted.get(image_set) else NoUnknown()
        pairs = list(zip(table[raw], given["saliency"] > 0, strict=True))
        got = {
            "labels_unknown": np.stack([rule.relabel(*pair) for pair in pairs]),
            "labels_plain": np.stack([NoUnknown().relabel(*pair) for pair in pairs]),
        }
        worst = max(worst, compare(got, expected, f"ssul_labels, case {at}"))
    return Checked(int(arrays["n_cases"]), worst)


def check_ssul_bce(arrays: Arrays) -> Checked:
    """Binary cross-entropy: every pixel, mean, gradient."""
    worst = 0.0
    for at, given, expected in cases(arrays):
        logits, labels = _variable(given["logits"]), torch.from_numpy(given["labels"])
        loss = binary_cross_entropy(logits, labels, "labelled")
        got = {"map": _map(logits.detach(), labels), "loss": loss.detach()}
        got["grad_logits"] = torch.autograd.grad(loss, logits)[0]
        worst = max(worst, compare(got, expected, f"ssul_bce, case {at}"))
    return Checked(int(arrays["n_cases"]), worst)


def check_ssul_pseudo_labels(arrays: Arrays) -> Checked:
    """Labels that the previous model completes, and the loss on them with its gradient."""
    worst = 0.0
    for at, given, expected in cases(arrays):
        old, labels = (torch.from_numpy(given[k]) for k in ("logits_prev", "labels"))
        scores = "sigmoid" if given["use_sigmoid"] else "softmax"
        first = int(given["fg_idx"]) + 1
        sure = confident_labels(old, labels, float(given["threshold"]), first, scores)
        loss = binary_cross_entropy if given["use_sigmoid"] else cross_entropy
        logits = _variable(given["logits"])
        value = loss(logits, sure, "labelled")
        got = {"labels": sure, "loss": value.detach()}
        got["grad_logits"] = torch.autograd.grad(value, logits)[0]
        worst = max(worst, compare(got, expected, f"ssul_pseudo_labels, case {at}"))
    return Checked(int(arrays["n_cases"]), worst)


def check_ssul_inference(arrays: Arrays) -> Checked:
    """Classes from logits."""
    worst = 0.0
    for at, given, expected in cases(arrays):
        scores = "sigmoid" if given["use_sigmoid"] else "softmax"
        found = classify(torch.from_numpy(given["logits"]), scores if given["unknown"] else None)
        worst = max(worst, compare({"pred": found}, expected, f"ssul_inference, case {at}"))
    return Checked(int(arrays["n_cases"]), worst)


def check_ssul_weight_transfer(arrays: Arrays) -> Checked:
    """Every number of every head once the new head has started from the unknown class's."""
    worst = 0.0
    for at, given, expected in cases(arrays):
        sizes = [int(n) for n in given["channels_per_head"]]
        last = len(sizes) - 1
        heads = [
            _head(given, f"{'init' if j == last else 'prev'}.head.{j}", n)
            for j, n in enumerate(sizes)
        ]
        FromUnknown()(heads)
        got = {
            f"head.{j}.{published}.{name}": value
            for j, head in enumerate(heads)
            for published, ours in LAYERS.items()
            for name, value in head.get_submodule(ours).state_dict().items()
        }
        worst = max(worst, compare(got, expected, f"ssul_weight_transfer, case {at}"))
    return Checked(int(arrays["n_cases"]), worst)


def check_ssul_memory(arrays: Arrays) -> Checked:
    """Both shuffles, what each candidate shows, and which are chosen."""
    worst = 0.0
    for at, given, expected in cases(arrays):
        targets, known = given["targets"].astype(np.int64), int(given["n_old"])
        classes = np.maximum(targets - int(given["unknown"]), BACKGROUND)
        labels = np.where(targets == IGNORE, IGNORE, classes).astype(np.uint8)
        shown = np.stack([contains(label, known) for label in labels])
        order, class_order = orders(len(labels), known, int(given["seed"]))
        image_list = choose(shown, int(given["mem_size"]), order, class_order)
        listed = [candidate for group in image_list.values() for candidate in group]
        got = {
            "shuffled_order": order,
            "class_order": class_order,
            "contains": shown,
            "selected_in_class_order": listed,
            "selected_sorted": sorted(listed),
        }
        drawn = {name: given[name] for name in ("shuffled_order", "class_order")}
        want = {name: (expected | drawn)[name] for name in got}
        worst = max(worst, compare(got, want, f"ssul_memory, case {at}"))
    unread = "counts that the released code stores and never reads: objs_num, fg_pixels"
    return Checked(int(arrays["n_cases"]), worst, unread)


def _step_list(order: np.ndarray, visible: np.ndarray) -> ImageList:
    """Returns a list whose network outputs are `order`, of which `visible` are annotated."""
    raw = [int(k) for k in order]
    shown = [int(k) for k in visible if k != BACKGROUND]
    return ImageList("x", 0, ClassTable.of([map(str, raw)], [raw]), shown, [])


def _head(given: Arrays, prefix: str, outputs: int) -> Head:
    """Builds a head from the arrays below `prefix`."""
    channels = given[f"{prefix}.0.weight"].shape[1]
    head = Conv().build(channels, outputs)
    state: Mapping[str, Tensor] = {
        f"{LAYERS[layer]}.{name}": torch.from_numpy(given[key])
        for key in given
        if key.startswith(f"{prefix}.")
        for layer, name in [key.removeprefix(f"{prefix}.").split(".")]
    }
    head.load_state_dict(state)
    return head


def _variable(values: np.ndarray) -> Tensor:
    return torch.from_numpy(values).requires_grad_()


def _map(logits: Tensor, labels: Tensor) -> Tensor:
    """Returns the loss of each pixel on its own, shape (b, h, w)."""
    b, h, w = labels.shape
    pixels = [
        binary_cross_entropy(
            logits[i : i + 1, :, y : y + 1, x : x + 1],
            labels[i : i + 1, y : y + 1, x : x + 1],
            "labelled",
        )
        for i, y, x in product(range(b), range(h), range(w))
    ]
    return torch.stack(pixels).reshape(b, h, w)
