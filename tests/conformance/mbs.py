"""Checks the files of MBS: `mbs_labels.npz`, `mbs_orthogonal.npz`, `mbs_features.npz`."""

import numpy as np
import torch
from torch import Tensor

from cssegcore.method._class_features import nearest_labels
from cssegcore.method._confident_labels import complete_labels
from cssegcore.method.losses import LossInputs
from cssegcore.method.losses.class_feature_mse import ClassFeatureMSE
from cssegcore.method.losses.orthogonal import Orthogonal
from cssegcore.method.losses.weighted_feature_mse import WeightedFeatureMSE, old_class_weights
from cssegcore.method.pseudo_labels.selective import select_labels
from cssegcore.models.outputs import Classifiers, Features, Outputs
from tests.conformance.vectors import Arrays, Checked, cases, compare


def check_mbs_labels(arrays: Arrays) -> Checked:
    """Labels with what the old model is sure of, and without what it doubts."""
    for at, given, expected in cases(arrays):
        logits, labels = torch.from_numpy(given["logits_old"]), _labels(given["labels"])
        threshold = float(given["threshold"])
        assert logits.shape[1] == given["num_old"]
        got = {
            "confident": complete_labels(logits, labels, threshold, 0, "softmax"),
            "labels": select_labels(logits, labels, threshold),
        }
        compare(got, expected, f"mbs_labels, case {at}")
    return Checked(int(arrays["n_cases"]), 0.0)


def check_mbs_orthogonal(arrays: Arrays) -> Checked:
    """The cosines of new tokens with others, and their gradient."""
    worst = 0.0
    for at, given, expected in cases(arrays):
        tokens, num_old = _variable(given["tokens"]), int(given["num_old"])
        assert np.isclose(given["weight"], 1 - num_old / len(tokens)), "which the part computes"
        none = torch.zeros(int(given["batch"]), 1, 1, 1)
        new = Outputs(none, none, Features((), none, none))
        layers = Classifiers(tokens, torch.zeros(len(tokens)))
        seen = LossInputs(new, None, _none(none), _none(none), num_old, classifiers=layers)
        loss = Orthogonal()(seen)
        got = {"loss": loss.detach(), "grad_tokens": torch.autograd.grad(loss, tokens)[0]}
        worst = max(worst, compare(got, expected, f"mbs_orthogonal, case {at}"))
    return Checked(int(arrays["n_cases"]), worst)


def check_mbs_features(arrays: Arrays) -> Checked:
    """Both distillations of features, the weights of the patches, and gradients."""
    worst = 0.0
    for at, given, expected in cases(arrays):
        masks, labels = torch.from_numpy(given["masks_old"]), _labels(given["labels"])
        size = (masks.shape[2], masks.shape[3])
        patches, classes = _variable(given["patches"]), _variable(given["class_features"])
        new = _outputs(masks, patches, classes)
        old = _outputs(
            masks, *(torch.from_numpy(given[f"{n}_old"]) for n in ("patches", "class_features"))
        )
        seen = LossInputs(new, old, labels, labels, int(given["num_old"]))
        of_patches, of_classes = WeightedFeatureMSE()(seen), ClassFeatureMSE()(seen)
        small = nearest_labels(labels, size)
        got = {
            "labels_small": small,
            "score": old_class_weights(small, masks),
            "patch_loss": of_patches.detach(),
            "class_loss": of_classes.detach(),
            "grad_patches": torch.autograd.grad(of_patches, patches)[0],
            "grad_class_features": torch.autograd.grad(of_classes, classes)[0],
        }
        worst = max(worst, compare(got, expected, f"mbs_features, case {at}"))
    return Checked(int(arrays["n_cases"]), worst)


def _outputs(masks: Tensor, patches: Tensor, classes: Tensor) -> Outputs:
    top = patches.mT.unflatten(-1, masks.shape[-2:])
    return Outputs(masks, masks, Features((), top, top, classes=classes))


def _none(like: Tensor) -> Tensor:
    return like[:, 0].long()


def _variable(values: np.ndarray) -> Tensor:
    return torch.from_numpy(values).requires_grad_()


def _labels(values: np.ndarray) -> Tensor:
    return torch.from_numpy(values.astype(np.int64))
