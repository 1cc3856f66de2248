"""One evaluation as the tables of six papers count it.

What counts is that of each paper's released program:

- MiB, Cermelli et al., CVPR 2020, https://arxiv.org/abs/2002.00718 (fcdl94/MiB, `dataset/voc.py`,
  `dataset/ade.py`, `metrics/stream_metrics.py`). Its tables leave the background out, its program
  prints it. Its ADE20K numbers are means over two orders of classes, which are two runs here.
- PLOP, Douillard et al., CVPR 2021, https://arxiv.org/abs/2011.11390
  (arthurdouillard/CVPR2021_PLOP, `dataset/voc.py`, `dataset/ade.py`).
- SSUL, Cha et al., NeurIPS 2021, https://arxiv.org/abs/2106.11562 (clovaai/SSUL,
  `metrics/stream_metrics.py`). Its ADE20K table mixes rows with and without void; the program
  counts it.
- SDR, Michieli and Zanuttigh, CVPR 2021, https://arxiv.org/abs/2103.06342 (LTTM/SDR, a
  fork of MiB's program).
- DKD, Baek et al., NeurIPS 2022, https://arxiv.org/abs/2210.05941 (cvlab-yonsei/DKD, `metric.py`,
  `dataset.py`), and STAR, Chen et al., NeurIPS 2023 (jinpeng0528/STAR), a fork of its program.
- MBS, Park et al., ECCV 2024, https://arxiv.org/abs/2407.11859 (RoadoneP/ECCV2024_MBS,
  `metrics/stream_metrics.py`, a fork of SSUL's). Its mean leaves out a class whose IoU is 0, and so
  rises when a class is forgotten altogether: compare it with MBS's tables alone.

How test images are read (all cut a square out of the middle) no matrix can tell.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from cssegcore.core.types import BACKGROUND, Background
from cssegcore.metrics.confusion import Future, fold_future, iou, mean_defined
from cssegcore.metrics.continual import FUTURE_RULES, Points, harmonic_mean, points
from cssegcore.metrics.record import Evaluated

TableRow = dict[str, Points | list[Points]]


@dataclass(frozen=True)
class Protocol:
    """Rules by which one paper's program counts metrics.

    Attributes:
        paper: Name of the paper.
        future: Class that a pixel of a class to come counts as.
        background_pixels: Whether pixels annotated as background (or void) count.
        background_class: Whether the background is a class in means: one of the first step.
        absent_is_zero: Whether a class without truth counts as 0 in means; else it is left out.
        zero_is_left_out: Whether a class with an IoU of 0 is left out of the mean of all classes;
            in those of steps it counts.
        background_in_groups: Whether the background is in the mean of the first step, too.
        average: Whether its tables have the mean over the steps.
        harmonic: Whether its tables have the harmonic mean of base and added classes.
    """

    paper: str
    future: Future
    background_pixels: bool = True
    background_class: bool = True
    absent_is_zero: bool = False
    zero_is_left_out: bool = False
    background_in_groups: bool = True
    average: bool = False
    harmonic: bool = False

    def line(self) -> str:
        """Returns the rules in one line."""
        pixels = "" if self.background_pixels else "pixels of the background do not count; "
        means = "is a class of the first step" if self.background_class else "is in no mean"
        absent = "count as 0" if self.absent_is_zero else "are left out"
        if self.background_class and not self.background_in_groups:
            means = "is in the mean of all classes alone"
        zero = ", and with IoU 0 are left out of the mean of all" if self.zero_is_left_out else ""
        return (
            f"{FUTURE_RULES[self.future]}; {pixels}background {means};"
            f" classes without truth {absent}{zero}"
        )


def protocols(background: Background) -> dict[str, Protocol]:
    """Returns the named protocols.

    Args:
        background: Meaning of the dataset's label 0. Where it is void, as in ADE20K, MiB and SDR do
            not test it, and the others take it for a class; `none`: it is a class like any.
            DKD has classes to come ignored on ADE20K and taken for background elsewhere. MBS does
            not test a void label 0, unlike SSUL, whose program its own began as.
    """
    real, none = background != "void", background == "none"
    return {
        "mib": Protocol("MiB", "ignore", background_pixels=real, background_class=none),
        "plop": Protocol("PLOP", "background", average=True),
        "ssul": Protocol("SSUL", "ignore", absent_is_zero=True),
        "sdr": Protocol("SDR", "ignore", background_pixels=real, background_class=real),
        "dkd": Protocol(
            "DKD, STAR",
            "background" if real else "ignore",
            absent_is_zero=True,
            harmonic=True,
        ),
        "mbs": Protocol(
            "MBS",
            "ignore",
            background_pixels=real,
            absent_is_zero=True,
            zero_is_left_out=True,
            background_in_groups=none,
        ),
    }


def table_row(records: Sequence[Evaluated], protocol: Protocol) -> TableRow:
    """Returns a run's row of the paper's table, in points after the last step.

    `base` is the papers' "old", as 1-15 in 15-1, `added` their "new", 16-20; `harmonic` (of these
    two, DKD's hIoU) and `average` are None where the paper has none; `groups` are the classes of
    each step, as in MiB's table of ADE20K.
    """
    means = [group_means(counted_iou(r, protocol), r.learned, protocol) for r in records]
    average = mean_defined(np.array([row[0] for row in means])) if protocol.average else np.nan
    everything, added, *groups = means[-1]
    harmonic = harmonic_mean(groups[0], added) if protocol.harmonic else np.nan
    return {
        "base": points(groups[0]),
        "added": points(added),
        "all": points(everything),
        "harmonic": points(harmonic),
        "average": points(average),
        "groups": [points(group) for group in groups],
    }


def counted_iou(record: Evaluated, protocol: Protocol) -> Float64[np.ndarray, " k"]:
    """Returns the IoU of the seen classes, NaN for a class that is in no mean."""
    matrix = record.counts
    if not protocol.background_pixels:
        matrix[BACKGROUND] = 0
    values = iou(fold_future(matrix, protocol.future))
    return np.nan_to_num(values) if protocol.absent_is_zero else values


def group_means(
    values: Float64[np.ndarray, " k"], learned: Sequence[int], protocol: Protocol
) -> list[float]:
    """Returns the means of all classes, of all added after step 0, then of each step's.

    Args:
        values: Result of `counted_iou`.
        learned: The index of the step in which each class arrives.
        protocol: Says where the background is one of the classes.
    """
    arrival = np.array(learned[: len(values)])
    counted = np.full(len(values), True)
    counted[BACKGROUND] = protocol.background_class
    everything = counted & (values != 0) if protocol.zero_is_left_out else counted.copy()
    counted[BACKGROUND] &= protocol.background_in_groups
    steps = [arrival == step for step in np.unique(arrival)]
    groups = [counted & of for of in (arrival > 0, *steps)]
    return [mean_defined(values[of]) for of in (everything, *groups)]
