"""The four numbers that PLOP's own script prints for a run, to check means against.

Douillard et al., PLOP: Learning without Forgetting for Continual Semantic Segmentation, CVPR 2021,
https://arxiv.org/abs/2011.11390
"""

import numpy as np
from jaxtyping import Float64


def plop_report(
    class_iou: Float64[np.ndarray, "s c"], mean_iou: Float64[np.ndarray, " s"]
) -> dict[str, float]:
    """Returns points rounded to two decimals, background counted.

    `final` is the last mean, `average` the mean of the means over steps, `first` the mean over the
    classes of step 0 after the last step, `last` that over the classes added since. With one step
    `first` and `last` are 0, as the script prints them.

    Deviation: a class without truth counts as 0 in `first` and `last` (and not in `mean_iou`),
    which this library does nowhere else.

    Args:
        class_iou: Fractions; NaN for a class that is not learned yet, +inf for one without truth.
        mean_iou: The mean over the learned classes with truth, after each step.
    """
    first = last = 0.0
    if len(class_iou) > 1:
        base = ~np.isnan(class_iou[0])
        final = np.where(np.isinf(class_iou[-1]), 0.0, class_iou[-1])
        first, last = float(final[base].mean()), float(final[~base].mean())
    values = {"final": mean_iou[-1], "average": mean_iou.mean(), "first": first, "last": last}
    return {name: round(100 * float(value), 2) for name, value in values.items()}
