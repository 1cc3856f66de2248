"""Checks the file of EWF's fusion: `ewf_fusion.npz`."""

import torch

from cssegcore.method.after.weight_fusion import WeightFusion, share_of_new
from tests.conformance.vectors import Arrays, Checked, cases, compare

RANK = 0.45
"""The fraction of values that the released program fuses under `--threshold_choice`."""


def check_ewf_fusion(arrays: Arrays) -> Checked:
    """The share of the new weights, and every tensor of the fused model."""
    worst = 0.0
    for at, given, expected in cases(arrays):
        num_old, num_new = int(given["num_old"]), int(given["num_new"])
        fusion = WeightFusion(threshold=RANK if given["threshold_choice"] else 0.0)
        old, new = (_tensors(given, f"{when}_") for when in ("old", "new"))
        fused = fusion(old, new, num_old, num_new)
        got = {"weight_new": share_of_new(num_old, num_new), **fused}
        worst = max(worst, compare(got, expected, f"ewf_fusion, case {at}"))
    return Checked(int(arrays["n_cases"]), worst)


def _tensors(given: Arrays, prefix: str) -> dict[str, torch.Tensor]:
    names = {key: key.removeprefix(prefix) for key in given if key.startswith(prefix)}
    return {name: torch.from_numpy(given[key]) for key, name in names.items()}
