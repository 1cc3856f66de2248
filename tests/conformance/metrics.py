"""Checks `metrics.npz` and `plop_csv_report.npz`."""

import numpy as np
import torch

from cssegcore.metrics.confusion import (
    class_accuracy,
    frequency_weighted_iou,
    iou,
    mean_defined,
    overall_accuracy,
)
from cssegcore.metrics.counting import confusion_matrix
from tests.conformance.plop_report import plop_report
from tests.conformance.vectors import Arrays, Checked, cases, compare, relative


def check_metrics(arrays: Arrays) -> Checked:
    """Confusion matrices and the means that MiB, PLOP, SDR and SSUL take of them."""
    worst = 0.0
    for at, given, expected in cases(arrays):
        classes, old = int(given["n_classes"]), int(given["n_old"])
        pairs = torch.from_numpy(given["labels"]), torch.from_numpy(given["preds"])
        matrix = confusion_matrix(*pairs, classes, classes).numpy()
        values = iou(matrix)
        zeroed = np.nan_to_num(values)  # SSUL: a class without truth counts as 0
        got = {
            "confusion": matrix,
            "mib_class_iou": values,
            "mib_mean_iou": mean_defined(values),
            "mib_overall_acc": overall_accuracy(matrix),
            "mib_mean_acc": mean_defined(class_accuracy(matrix)),
            "mib_fw_acc": frequency_weighted_iou(matrix),
            "mib_table_old": mean_defined(values[1:old]),
            "mib_table_new": mean_defined(values[old:]),
            "mib_table_all": mean_defined(values[1:]),
            "ssul_class_iou": zeroed,
            "ssul_mean_iou": zeroed.mean(),
            "ssul_mean_acc": np.nan_to_num(class_accuracy(matrix)).mean(),
            "ssul_old": zeroed[:old].mean(),
            "ssul_new": zeroed[old:].mean(),
        }
        worst = max(worst, compare(got, expected, f"metrics, case {at}", relative))
    return Checked(int(arrays["n_cases"]), worst)


def check_plop_csv_report(arrays: Arrays) -> Checked:
    """The summary that PLOP's script prints."""
    worst = 0.0
    for at, given, expected in cases(arrays):
        got = {
            "last_step": len(given["class_iou"]) - 1,
            **plop_report(given["class_iou"], given["mean_iou"]),
        }
        worst = max(worst, compare(got, expected, f"plop_csv_report, case {at}", relative))
    return Checked(int(arrays["n_cases"]), worst)
