"""Which check belongs to which file."""

from collections.abc import Callable

from tests.conformance import deepinv, ewf, lgkd, mbs, metrics, mib, plop, schedules, sdr, ssul
from tests.conformance.vectors import Arrays, Checked

CHECKS: dict[str, Callable[[Arrays], Checked]] = {
    name.removeprefix("check_"): check
    for module in (deepinv, ewf, lgkd, mbs, metrics, mib, plop, schedules, sdr, ssul)
    for name, check in vars(module).items()
    if name.startswith("check_")
}
"""The check of each file, by the file's name without `.npz`."""

PENDING = frozenset(
    {
        "dkd_classifier_init",
        "dkd_decomposed",
        "dkd_inference",
        "dkd_kd",
        "dkd_mbce",
        "dkd_memory",
        "dkd_total",
        "nest_classifiers",
        "nest_importance",
        "star_inference",
        "star_pkd",
        "star_regions",
        "star_replay_features",
        "star_schedule",
        "star_separation",
        "star_statistics",
        "star_total",
    }
)
"""Files of methods that the library does not have: they are listed and fail nothing."""
