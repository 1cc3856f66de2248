"""Which check belongs to which file."""

from collections.abc import Callable

from tests.conformance import (
    deepinv,
    dkd,
    ewf,
    lgkd,
    mbs,
    metrics,
    mib,
    nest,
    plop,
    schedules,
    sdr,
    ssul,
    star,
)
from tests.conformance.vectors import Arrays, Checked

CHECKS: dict[str, Callable[[Arrays], Checked]] = {
    name.removeprefix("check_"): check
    for module in (
        *(deepinv, dkd, ewf, lgkd, mbs, metrics, mib, nest, plop, schedules, sdr, ssul, star),
    )
    for name, check in vars(module).items()
    if name.startswith("check_")
}
"""The check of each file, by the file's name without `.npz`."""
