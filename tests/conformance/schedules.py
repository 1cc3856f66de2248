"""Checks `lr_schedules.npz`."""

from cssegcore.engine import Optimizer
from tests.conformance.vectors import Arrays, Checked, cases, compare, relative

POLY = Optimizer(batch_size=1, momentum=0.9, weight_decay=0.0, power=0.9, clip=0.0, amp=False)


def check_lr_schedules(arrays: Arrays) -> Checked:
    """The learning rate of every iteration; SSUL's floor and warm-up join with that method."""
    worst, checked, left_out = 0.0, 0, set[str]()
    for at, given, expected in cases(arrays):
        if given["policy"] != "poly":
            left_out.add(str(given["policy"]))
            continue
        n = int(given["epochs"]) * int(given["iters_per_epoch"])
        table = [[POLY.lr(float(base), i, n) for base in given["base_lrs"]] for i in range(n + 1)]
        worst = max(worst, compare({"lr": table}, expected, f"lr_schedules, case {at}", relative))
        checked += 1
    return Checked(checked, worst, f"no such policy yet: {', '.join(sorted(left_out))}")
