"""Which check belongs to which file."""

from collections.abc import Callable

from tests.conformance.metrics import check_metrics, check_plop_csv_report
from tests.conformance.mib import (
    check_mib_classifier_init,
    check_mib_method_totals,
    check_mib_unce,
    check_mib_unkd,
)
from tests.conformance.schedules import check_lr_schedules
from tests.conformance.vectors import Arrays, Checked

CHECKS: dict[str, Callable[[Arrays], Checked]] = {
    check.__name__.removeprefix("check_"): check
    for check in (
        check_lr_schedules,
        check_metrics,
        check_mib_classifier_init,
        check_mib_method_totals,
        check_mib_unce,
        check_mib_unkd,
        check_plop_csv_report,
    )
}
"""The check of each file, by the file's name without `.npz`."""
