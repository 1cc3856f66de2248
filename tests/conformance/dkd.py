"""Checks the files of DKD: `dkd_*.npz`."""

from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from cssegcore.method._confident_labels import complete_labels
from cssegcore.method.classifier_init.auxiliary import FromAuxiliary
from cssegcore.method.losses import Loss, LossInputs
from cssegcore.method.losses.bce_kd import BinaryDistillation, binary_distillation
from cssegcore.method.losses.mbce import NewClassCrossEntropy, new_class_cross_entropy
from cssegcore.method.losses.negative import AuxiliaryNegative
from cssegcore.method.losses.reasoning import Reasoning, reasoning_distillation, reasoning_scores
from cssegcore.method.replay.exemplars import choose, contains, orders
from cssegcore.models._base import FeatureExtractor
from cssegcore.models.heads.linear import Linear
from cssegcore.models.outputs import Features
from cssegcore.models.segmenter import Segmenter, classify, decisive_logits
from tests.conformance.vectors import Arrays, Checked, cases, compare

TERMS: dict[str, Loss] = {
    "mbce": NewClassCrossEntropy(),
    "kd": BinaryDistillation(background=False),
    "positive": Reasoning(sign="positive"),
    "negative": Reasoning(sign="negative"),
    "ac": AuxiliaryNegative(),
}
"""DKD's terms in the order of the published weights; the last acts in the base step too."""


class _Stored(FeatureExtractor):
    """Gives stored features whatever it sees."""

    def __init__(self, top: Tensor) -> None:
        super().__init__()
        self.channels = self.last_stage_channels = top.shape[1]
        self.top = top

    def forward(self, images: Tensor) -> Features:
        del images
        return Features((self.top,), self.top, self.top)


def check_dkd_mbce(arrays: Arrays) -> Checked:
    """The loss of each pixel and each new class, the sum and its gradient."""
    worst = 0.0
    for at, given, expected in cases(arrays):
        logits, labels = _variable(given["logits"]), torch.from_numpy(given["labels"])
        num_old, p = int(given["num_old"]), float(given["pos_weight"])
        each = torch.stack(
            [_each(logits.detach(), labels, num_old, c, p) for c in range(int(given["num_new"]))],
            1,
        )
        loss = new_class_cross_entropy(logits, labels, num_old, p).mean()
        got = {"map": each, "per_class": each.mean((0, 2, 3)), "loss": loss.detach()}
        got["grad_logits"] = torch.autograd.grad(loss, logits)[0]
        worst = max(worst, compare(got, expected, f"dkd_mbce, case {at}"))
    return Checked(int(arrays["n_cases"]), worst)


def check_dkd_kd(arrays: Arrays) -> Checked:
    """Distillation of each pixel and each old class, the sum and its gradient."""
    worst = 0.0
    for at, given, expected in cases(arrays):
        logits, old = _variable(given["logits"]), torch.from_numpy(given["logits_old"])
        pairs = zip(logits.detach().unbind(1), old.unbind(1), strict=False)
        each = torch.stack([_pixels(new, before) for new, before in list(pairs)[1:]], 1)
        loss = binary_distillation(logits, old, background=False)
        got = {"map": each, "per_class": each.mean((0, 2, 3)), "loss": loss.detach()}
        got["grad_logits"] = torch.autograd.grad(loss, logits)[0]
        worst = max(worst, compare(got, expected, f"dkd_kd, case {at}"))
    return Checked(int(arrays["n_cases"]), worst)


def check_dkd_decomposed(arrays: Arrays) -> Checked:
    """Both scores of both models, the losses, and the gradients of their sum."""
    worst = 0.0
    for at, given, expected in cases(arrays):
        count = len(given["groups"])
        top = _variable(given["top"])
        weights = [_variable(given[f"w{j}"]) for j in range(count)]
        weight = torch.cat(weights)
        old_weight = torch.cat([torch.from_numpy(given[f"w_old{j}"]) for j in range(count - 1)])
        got, losses = {}, []
        for sign in ("positive", "negative"):
            scores = reasoning_scores(top, weight[1:], sign)
            before = reasoning_scores(torch.from_numpy(given["top_old"]), old_weight[1:], sign)
            kept = scores[:, : before.shape[1]]
            columns = [(kept[:, [c]], before[:, [c]]) for c in range(before.shape[1])]
            got[sign], got[f"{sign}_old"] = scores.detach(), before
            got[f"{sign}_per_class"] = [reasoning_distillation(*c).item() for c in columns]
            losses.append(reasoning_distillation(kept, before))
            got[f"{sign}_loss"] = losses[-1].detach()
        slopes = torch.autograd.grad(sum(losses), [top, *weights], materialize_grads=True)
        names = ["grad_top", *(f"grad_w{j}" for j in range(count))]
        got |= dict(zip(names, slopes, strict=True))
        worst = max(worst, compare(got, expected, f"dkd_decomposed, case {at}"))
    return Checked(int(arrays["n_cases"]), worst)


def check_dkd_classifier_init(arrays: Arrays) -> Checked:
    """Every head once the new one has started from the auxiliary output."""
    worst = 0.0
    for at, given, expected in cases(arrays):
        channels = given["w0"].shape[1]
        network = _network(given, torch.zeros(1, channels, 1, 1), "", len(given["groups"]))
        FromAuxiliary()(network.groups)
        got = {}
        for j, head in enumerate(network.groups):
            got[f"w{j}"] = head.classifier.weight.detach().flatten(1)
            got[f"b{j}"] = head.classifier.bias.detach()
        worst = max(worst, compare(got, expected, f"dkd_classifier_init, case {at}"))
    return Checked(int(arrays["n_cases"]), worst)


def check_dkd_inference(arrays: Arrays) -> Checked:
    """Classes from logits."""
    worst = 0.0
    for at, given, expected in cases(arrays):
        found = classify(torch.from_numpy(given["logits"]), None, "auxiliary")
        worst = max(worst, compare({"pred": found}, expected, f"dkd_inference, case {at}"))
    return Checked(int(arrays["n_cases"]), worst)


def check_dkd_total(arrays: Arrays) -> Checked:
    """Every term of a batch, their sum, and its gradients in features and heads."""
    worst = 0.0
    for at, given, expected in cases(arrays):
        labels, count = torch.from_numpy(given["labels"]), len(given["groups"])
        images = torch.zeros(len(labels), 3, *labels.shape[1:])
        top = _variable(given["top"])
        network, old = _network(given, top, "", count), None
        names = ["mbce", "ac"]
        if "top_old" in given:
            stored = torch.from_numpy(given["top_old"])
            old = _network(given, stored, "_old", count - 1).requires_grad_(False)
            names = list(TERMS)
        said = network(images)
        before = old(images) if old else None
        batch = LossInputs(
            said,
            before,
            labels,
            labels,
            int(given["num_old"]),
            classifiers=network.classifiers(),
            old_classifiers=old.classifiers() if old else None,
        )
        terms = TERMS | {"mbce": NewClassCrossEntropy(float(given["pos_weight"]))}
        got = {name: terms[name](batch) for name in names}
        factors = dict(zip(TERMS, given["weights"].tolist(), strict=True))
        total = torch.stack([factors[name] * value for name, value in got.items()]).sum()
        total.backward()
        got |= {"total": total, "logits": said.logits}
        got = {name: value.detach() for name, value in got.items()}
        if before is not None:
            got["logits_old"] = before.logits
        got["grad_top"] = top.grad
        for j, head in enumerate(network.groups):
            got[f"grad_w{j}"] = head.classifier.weight.grad.flatten(1)
            got[f"grad_b{j}"] = head.classifier.bias.grad
        worst = max(worst, compare(got, expected, f"dkd_total, case {at}"))
    return Checked(int(arrays["n_cases"]), worst)


def check_dkd_memory(arrays: Arrays) -> Checked:
    """What is kept before two steps: recorded classes, and labels that the old model completes."""
    worst = 0.0
    for at, given, expected in cases(arrays):
        first, second = given["labels0"], torch.from_numpy(given["labels1"]).long()
        known, size = int(given["num_base"]) + 1, int(given["size"])
        shown = np.stack([contains(labels, known + 1) for labels in first])
        kept = _listed(choose(shown, size, *orders(len(first), known, int(given["seed1"]))))
        logits = decisive_logits(torch.from_numpy(given["logits_old"]), "auxiliary")
        completed = complete_labels(logits, second, float(given["threshold"]), 0, "sigmoid")
        labels = completed.numpy().astype(np.uint8)
        more = np.stack([contains(image, known + 1) for image in labels])
        rows = np.concatenate([shown[kept], more])
        again = orders(len(rows), known + 1, int(given["seed2"]))
        names = np.concatenate([kept, len(first) + np.arange(len(labels))])
        chosen = names[_listed(choose(rows, size, *again))]
        got = {
            "step1_in_class_order": kept,
            "step1_sorted": sorted(kept),
            "step2_labels": labels,
            "step2_shown": more,
            "step2_in_class_order": chosen,
            "step2_sorted": sorted(chosen),
        }
        worst = max(worst, compare(got, expected, f"dkd_memory, case {at}"))
    return Checked(int(arrays["n_cases"]), worst)


def _network(given: Arrays, top: Tensor, suffix: str, count: int) -> Segmenter:
    """Builds a network on stored features whose heads are the arrays `wSUFFIXj`, `bSUFFIXj`."""
    auxiliary, base, *later = (int(n) for n in given["groups"][:count])
    assert auxiliary == 1
    network = Segmenter(_Stored(top), Linear(), [1 + base, *later], background="auxiliary")
    for j, head in enumerate(network.groups):
        weight, bias = (torch.from_numpy(given[f"{kind}{suffix}{j}"]) for kind in "wb")
        head.classifier.load_state_dict({"weight": weight[:, :, None, None], "bias": bias})
    return network


def _listed(groups: dict[int, list[int]]) -> list[int]:
    assert all(a < b for a, b in pairwise(groups))
    return [candidate for group in groups.values() for candidate in group]


def _variable(values: np.ndarray) -> Tensor:
    return torch.from_numpy(values).requires_grad_()


def _each(logits: Tensor, labels: Tensor, num_old: int, new: int, p: float) -> Tensor:
    """Returns the loss of one new class at each pixel, (b, h, w)."""
    shifted = torch.where(labels == num_old + new, num_old, 0)
    columns = torch.cat([logits[:, :num_old], logits[:, [num_old + new]]], 1)
    return new_class_cross_entropy(columns, shifted, num_old, p)


def _pixels(new: Tensor, old: Tensor) -> Tensor:
    """Returns the distillation of one class at each pixel, (b, h, w)."""
    pairs = zip(new.flatten(), old.flatten(), strict=True)
    each = [binary_distillation(*(z.reshape(1, 1, 1, 1) for z in pair)) for pair in pairs]
    return torch.stack(each).reshape(new.shape)
