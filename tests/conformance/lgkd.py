"""Checks the files of the label-guided distillation: `lgkd.npz`, `mbs_output_distillation.npz`."""

import numpy as np
import torch
from torch import Tensor

from cssegcore.method._class_features import nearest_labels
from cssegcore.method.losses import LossInputs
from cssegcore.method.losses.label_guided_kd import LabelGuidedDistillation
from cssegcore.models.outputs import Features, Outputs
from tests.conformance.vectors import Arrays, Checked, cases, compare


def check_lgkd(arrays: Arrays) -> Checked:
    """LGKD's term: labels at the small size, mean, gradient."""
    worst = 0.0
    for at, given, expected in cases(arrays):
        new, old = float(given["weight_new"]), float(given["weight_old"])
        term = LabelGuidedDistillation(old=old, new=new)
        small, labels = _variable(given["small"]), _labels(given["labels"])
        loss = term(_inputs(small, given["small_old"], labels, int(given["num_old"])))
        got = {
            "labels_small": nearest_labels(labels, (small.shape[2], small.shape[3])),
            "loss": loss.detach(),
            "grad_small": torch.autograd.grad(loss, small)[0],
        }
        worst = max(worst, compare(got, expected, f"lgkd, case {at}"))
    return Checked(int(arrays["n_cases"]), worst)


def check_mbs_output_distillation(arrays: Arrays) -> Checked:
    """MBS's distillation of outputs, which is the same term with other means."""
    worst = 0.0
    term = LabelGuidedDistillation(size="full", average="all", classes="mean")
    for at, given, expected in cases(arrays):
        logits, labels = _variable(given["logits"]), _labels(given["labels"])
        loss = term(_inputs(logits, given["logits_old"], labels, int(given["num_old"])))
        got = {"loss": loss.detach(), "grad_logits": torch.autograd.grad(loss, logits)[0]}
        worst = max(worst, compare(got, expected, f"mbs_output_distillation, case {at}"))
    return Checked(int(arrays["n_cases"]), worst)


def _inputs(logits: Tensor, old: np.ndarray, labels: Tensor, num_old: int) -> LossInputs:
    """Returns a batch whose logits stand for the small and for the full ones."""
    none = torch.zeros(len(logits), 1, *logits.shape[-2:])

    def outputs(scores: Tensor) -> Outputs:
        return Outputs(scores, scores, Features((), none, none))

    return LossInputs(outputs(logits), outputs(torch.from_numpy(old)), labels, labels, num_old)


def _variable(values: np.ndarray) -> Tensor:
    return torch.from_numpy(values).requires_grad_()


def _labels(values: np.ndarray) -> Tensor:
    return torch.from_numpy(values.astype(np.int64))
