"""Checks `metrics.npz` and `plop_csv_report.npz`."""

from collections.abc import Mapping

import numpy as np

from cssegcore.metrics.confusion import (
    class_accuracy,
    confusion_matrix,
    frequency_weighted_iou,
    iou,
    mean_defined,
    overall_accuracy,
)
from cssegcore.metrics.plop_report import plop_report

TOLERANCE = 1e-9  # relative, element by element: float64 throughout


def check_metrics(npz: Mapping[str, np.ndarray]) -> tuple[int, float]:
    """Confusion matrices and the means that MiB, PLOP, SDR and SSUL take of them."""
    worst = 0.0
    for case in range(int(npz["n_cases"])):
        given, expected = _case(npz, case, "in"), _case(npz, case, "exp")
        classes, old = int(given["n_classes"]), int(given["n_old"])
        matrix = confusion_matrix(given["labels"], given["preds"], classes)
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
        worst = max(worst, _compare(got, expected, f"metrics, case {case}"))
    return int(npz["n_cases"]), worst


def check_plop_csv_report(npz: Mapping[str, np.ndarray]) -> tuple[int, float]:
    """The summary that PLOP's script prints."""
    worst = 0.0
    for case in range(int(npz["n_cases"])):
        given, expected = _case(npz, case, "in"), _case(npz, case, "exp")
        got = {
            "last_step": len(given["class_iou"]) - 1,
            **plop_report(given["class_iou"], given["mean_iou"]),
        }
        worst = max(worst, _compare(got, expected, f"plop_csv_report, case {case}"))
    return int(npz["n_cases"]), worst


def _case(npz: Mapping[str, np.ndarray], case: int, kind: str) -> dict[str, np.ndarray]:
    prefix = f"case{case}_{kind}_"
    return {key.removeprefix(prefix): npz[key] for key in npz if key.startswith(prefix)}


def _compare(got: Mapping[str, object], expected: Mapping[str, np.ndarray], where: str) -> float:
    """Returns the largest relative difference of any element."""
    assert got.keys() == expected.keys(), f"{where}: {got.keys() ^ expected.keys()} not compared"
    worst = 0.0
    for name, want in expected.items():
        have = np.asarray(got[name], dtype=np.float64)
        assert have.shape == want.shape, f"{where}, {name}: {have.shape} is not {want.shape}"
        assert np.array_equal(np.isnan(have), np.isnan(want)), f"{where}, {name}: NaN elsewhere"
        scale = np.maximum(np.abs(np.nan_to_num(want)), 1e-12)
        error = float((np.abs(np.nan_to_num(have) - np.nan_to_num(want)) / scale).max())
        assert error <= TOLERANCE, f"{where}, {name}: off by {error:.2e} (relative)"
        worst = max(worst, error)
    return worst
