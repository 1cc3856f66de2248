"""Checks `lr_schedules.npz`."""

import dataclasses

from cssegcore.training.optimizer.sgd import Sgd
from tests.conformance.vectors import Arrays, Checked, cases, compare, relative

POLY = Sgd(
    batch_size=1,
    momentum=0.9,
    weight_decay=0.0,
    power=0.9,
    clip=0.0,
    amp=False,
    floor=0.0,
    warmup=0.0,
)
POLICIES = {
    "poly": POLY,
    "ssul_poly": dataclasses.replace(POLY, floor=1e-6),
    "ssul_warm_poly": dataclasses.replace(POLY, warmup=0.1),
}


def check_lr_schedules(arrays: Arrays) -> Checked:
    """The learning rate of every iteration, and the one after the last."""
    worst = 0.0
    for at, given, expected in cases(arrays):
        lr, n = POLICIES[str(given["policy"])].lr, int(given["epochs"] * given["iters_per_epoch"])
        table = [[lr(float(base), i, n) for base in given["base_lrs"]] for i in range(n + 1)]
        worst = max(worst, compare({"lr": table}, expected, f"lr_schedules, case {at}", relative))
    return Checked(int(arrays["n_cases"]), worst)
