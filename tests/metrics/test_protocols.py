"""The papers' tables: their own arithmetic, and their rules pixel by pixel."""

import numpy as np
import pytest
import torch

from cssegcore.metrics.counting import confusion_matrix
from cssegcore.metrics.protocols import protocols, table_row
from cssegcore.metrics.record import Evaluated

# Published rows, as each paper prints them: means of the classes of each group, then of all. Two do
# not agree with themselves and are not here: MiB's joint training in 50-50 (51.1/38.3/28.2, thus
# 39.2, beside 38.9) and PLOP in 15-5 (75.73/51.71, thus 70.01, beside 70.09).
# MiB (CVPR 2020) tables 1 and 2; PLOP (CVPR 2021) tables 1 and 2, and the mean over the steps;
# SSUL and SDR as DKD (NeurIPS 2022), CFSSeg (MM 2025) and SSUL's repository quote them.
MIB_VOC = {
    "19-1": """5.8/12.3/6.2 6.8/12.9/7.1 5.4/14.1/5.9 7.5/14.0/7.8 23.2/16.0/22.9 26.9/14.0/26.3
        19.4/15.7/19.2 23.3/14.2/22.9 53.0/9.1/50.8 51.2/8.5/49.1 63.0/13.2/60.5 64.4/13.3/61.9
        69.1/16.4/66.4 67.1/12.3/64.4 69.6/25.6/67.4 70.2/22.1/67.8 77.4/78.0/77.4""",
    "15-5": """1.1/33.6/9.2 2.1/33.1/9.8 1.3/34.1/9.5 1.6/33.3/9.5 26.7/37.7/29.4 24.3/35.5/27.1
        17.9/36.9/22.7 16.6/34.9/21.2 58.4/37.4/53.1 58.9/36.6/53.3 67.2/41.2/60.7 58.1/35.0/52.3
        63.2/39.5/57.3 66.3/40.6/59.9 71.8/43.3/64.7 75.5/49.4/69.0 79.1/72.6/77.4""",
    "15-1": """0.2/1.8/0.6 0.0/1.8/0.4 0.0/1.8/0.5 0.3/4.3/1.3 0.2/5.4/1.5 0.0/5.2/1.3 0.8/3.6/1.5
        1.0/3.9/1.8 4.5/7.0/5.2 6.4/8.4/6.9 3.7/5.7/4.2 4.9/7.8/5.7 46.2/12.9/37.9 35.1/13.5/29.7
        79.1/72.6/77.4""",
}
MIB_ADE = {
    "100-50": "0.0/24.9/8.3 21.1/25.6/22.6 34.2/10.5/26.3 22.9/18.9/21.6 37.9/27.9/34.6"
    " 44.3/28.2/38.9",
    "100-10": """0.0/0.0/0.0/0.0/0.0/16.6/1.1 0.1/0.0/0.4/2.6/4.6/16.9/1.7
        18.7/2.5/8.7/4.1/6.5/5.1/14.3 0.3/0.0/1.0/2.1/4.6/10.7/1.4
        31.8/10.4/14.8/12.8/13.6/18.7/25.9 44.3/26.1/42.8/26.7/28.1/17.3/38.9
        25.8/19.6/20.9/15.8/22.0/26.9/24.2""",
    "50-50": "0.0/0.0/22.0/7.3 5.7/12.9/22.8/13.9 27.8/7.0/10.4/15.1 8.4/9.7/14.3/10.8"
    " 35.5/22.2/23.6/27.0",
}
PLOP_VOC = {
    "19-1": "67.75/10.88/65.05 71.43/23.59/69.15 75.35/37.35/73.54",
    "15-5": "67.08/39.23/60.45 76.37/49.97/70.08",
    "15-1": "8.75/7.99/8.56 34.22/13.50/29.29 65.12/21.11/54.64",
    "10-1": "7.15/3.67/5.50 12.25/13.09/12.65 44.03/15.51/30.45",
}
PLOP_ADE = {
    "100-50": "18.29/14.40/17.00 40.52/17.17/32.79 41.87/14.89/32.94",
    "50-50": "3.53/12.85/9.70 45.57/21.01/29.31 48.83/20.99/30.40",
    "100-10": "0.11/3.06/1.09 38.21/11.12/29.24 40.48/13.61/31.59",
    "100-5": "0.08/1.31/0.49 36.01/5.66/25.96 39.11/7.81/28.75",
}
SDR_VOC = {
    "19-1": "69.9/37.3/68.4 69.1/32.6/67.4 70.8/31.4/68.9 71.3/23.4/69.0",
    "15-5": "73.6/46.7/67.2 73.5/47.3/67.2 75.4/52.6/69.9 74.6/43.8/67.3 74.6/44.1/67.3"
    " 76.3/50.2/70.1",
    "15-1": "58.5/10.1/47.0 59.2/12.9/48.1 44.7/21.8/39.2 58.1/11.8/47.1 59.4/14.3/48.7"
    " 47.3/14.7/39.5",
    "10-1": "17.3/11.0/14.3",
}
SDR_ADE = {
    "100-50": "37.4/24.8/33.2 37.5/25.5/33.5",
    "50-50": "40.9/23.8/29.5 42.9/25.4/31.3",
    "100-10": "28.9/7.4/21.7 28.9/11.7/23.2",
}
SSUL_VOC = {
    "19-1": "77.73/29.68/75.44 77.83/49.76/76.49 77.38/22.43/74.76 77.58/43.89/75.98",
    "15-5": "77.82/50.10/71.22 78.40/55.80/73.02 76.44/45.60/69.10 76.47/48.55/69.83",
    "15-1": "77.31/36.59/67.61 78.36/49.01/71.37 73.97/32.15/64.01 76.46/43.37/68.58",
    "10-1": "71.31/45.98/59.25 74.02/53.23/64.12",
    "5-3": "72.44/50.67/56.89 71.27/53.21/58.37",
}
SSUL_ADE = {
    "100-5": "39.94/17.40/32.48",
    "100-10": "40.20/18.75/33.10",
    "100-50": "41.28/18.02/33.58",
}
# of the same table, but computed without void, as MiB and SDR count
SSUL_ADE_WITHOUT_VOID = {
    "100-10": "42.86/17.66/34.46",
    "100-50": "42.79/17.54/34.37",
    "50-50": "48.38/20.15/29.56 49.12/20.10/29.77",
}
DKD_VOC = {"15-1": "78.09/42.72/69.67"}  # DKD (NeurIPS 2022), means of five runs
TABLES = [
    ("dkd", 20, DKD_VOC),
    ("mib", 20, MIB_VOC),
    ("mib", 150, MIB_ADE),
    ("plop", 20, PLOP_VOC),
    ("plop", 150, PLOP_ADE),
    ("sdr", 20, SDR_VOC),
    ("sdr", 150, SDR_ADE),
    ("ssul", 20, SSUL_VOC),
    ("ssul", 150, SSUL_ADE),
    ("sdr", 150, SSUL_ADE_WITHOUT_VOID),
]
ROWS = [
    pytest.param(name, classes, task, row, id=f"{name}-{classes}-{task}-{row.replace('/', '_')}")
    for name, classes, table in TABLES
    for task, rows in table.items()
    for row in rows.split()
]
SIDE = 10**6  # pixels of a class


def evaluated(matrix, learned, index):
    """The record of a step; classes without a column are to come."""
    matrix = np.asarray(matrix)
    classes = [str(c) for c in range(len(learned))]
    seen = matrix.shape[1]
    return Evaluated(f"step{index}", index, classes, list(learned), seen, 1, matrix.tolist())


def steps_of(task, classes):
    """The step in which each output arrives; 100-50 and 15-5 are one increment, 10-1 many."""
    base, more = map(int, task.split("-"))
    return [0] * (base + 1) + [1 + c // more for c in range(classes - base)]


def spread(mean, count):
    """Values in [0, 1] around a mean that differ from each other."""
    reach = min(mean, 1 - mean) / 2 if count > 1 else 0
    return list(mean + np.linspace(-reach, reach, count))


def with_iou(values, rows=0):
    """A matrix of these IoUs: what is missed is taken for background, which has more pixels then.

    `rows`: classes to come, without pixels.
    """
    background, *others = values
    matrix = np.zeros((len(values) + rows, len(values)), np.int64)
    for c, value in enumerate(others, start=1):
        matrix[c, c] = round(value * SIDE)
        matrix[c, 0] = SIDE - matrix[c, c]
    missed = matrix[:, 0].sum()
    matrix[0, 0] = round(background / (1 - background) * missed)
    matrix[0, 1] = 1  # it has truth even if its IoU is 0
    return matrix


@pytest.mark.parametrize(("name", "classes", "task", "row"), ROWS)
def test_the_mean_of_all_classes_is_the_one_published_beside_its_groups(name, classes, task, row):
    protocol = protocols("void" if classes == 150 else "annotated")[name]
    *groups, everything = [float(value) for value in row.split("/")]
    learned = steps_of(task, classes)
    if len(groups) == 2:  # one number for all later classes: the same for each of their steps
        groups += [groups[1]] * (learned[-1] - 1)
    sizes = np.bincount(learned)
    # a background that is no class of the table's must not be in its means
    counted = name in ("plop", "ssul", "dkd") or (name == "sdr" and classes == 20)
    outputs = [] if counted else [0.97]
    for size, group, first in zip(sizes, groups, [True] + [False] * len(sizes), strict=False):
        outputs += spread(group / 100, size - (first and not counted))
    got = table_row([evaluated(with_iou(outputs), learned, learned[-1])], protocol)

    unit = 0.01 if "." in row and len(row.split("/")[0].split(".")[1]) == 2 else 0.1
    tolerance = unit + 1e-3  # groups and mean are each rounded to half a unit
    assert got["all"] == pytest.approx(everything, abs=tolerance)
    assert got["base"] == pytest.approx(groups[0], abs=1e-3)
    assert got["groups"] == pytest.approx(groups, abs=1e-3)
    added = sum(n * g for n, g in zip(sizes[1:], groups[1:], strict=True)) / sum(sizes[1:])
    assert got["added"] == pytest.approx(added, abs=1e-3)


def test_plops_average_is_over_the_steps_and_the_others_have_none():
    published = [80.34, 74.29, 69.74, 65.39, 58.84, 54.64]  # VOC 15-1, after each step
    learned = steps_of("15-1", 20)
    records = [
        evaluated(with_iou(spread(mean / 100, 16 + step), rows=5 - step), learned, step)
        for step, mean in enumerate(published)
    ]
    for name, protocol in protocols("annotated").items():
        got = table_row(records, protocol)["average"]
        assert got == (pytest.approx(67.21, abs=0.01) if name == "plop" else None)


VOID = 255


def mib(truth, seen, void):
    if truth == VOID or truth >= seen or (void and truth == 0):
        return None
    return truth


def plop(truth, seen, void):
    if truth == VOID:
        return None
    return 0 if truth >= seen else truth


def ssul(truth, seen, void):
    return None if truth == VOID or truth >= seen else truth


def dkd(truth, seen, void):
    return (ssul if void else plop)(truth, seen, void)


def mbs(truth, seen, void):
    return None if void and truth == 0 else ssul(truth, seen, void)


# What a true label counts as; outputs that are in means; what a class without truth counts as.
# MBS's program prints `Class IoU` from 1 on, and all classes' mean without those of IoU 0.
BY_HAND = {
    "mib": (mib, lambda void: 1, None),
    "plop": (plop, lambda void: 0, None),
    "ssul": (ssul, lambda void: 0, 0.0),
    "sdr": (mib, lambda void: 1 if void else 0, None),
    "dkd": (dkd, lambda void: 0, 0.0),
    "mbs": (mbs, lambda void: 1, 0.0),
}


def means_by_hand(name, truths, preds, learned, void):
    """Group means of one step from its pixels: all, added, then the classes of each step."""
    rule, first, absent = BY_HAND[name]
    seen = int(preds.max()) + 1
    counted = [
        (rule(int(t), seen, void), int(p)) for t, p in zip(truths.flat, preds.flat, strict=True)
    ]
    counted = [(t, p) for t, p in counted if t is not None]
    values = {}
    for c in range(first(void), seen):
        both = sum(t == c and p == c for t, p in counted)
        either = sum(t == c or p == c for t, p in counted)
        values[c] = 100 * both / either if any(t == c for t, _ in counted) else absent
    wanted = [lambda step: True, lambda step: step > 0]
    wanted += [lambda step, s=s: step == s for s in range(learned[seen - 1] + 1)]
    groups = []
    for want in wanted:
        group = [v for c, v in values.items() if want(learned[c]) and v is not None]
        groups.append(sum(group) / len(group) if group else None)
    if name == "mbs":
        whole = [*values.values(), background_by_hand(counted)]
        groups[0] = sum(whole) / sum(value != 0 for value in whole)
    return groups


def background_by_hand(counted):
    both = sum(t == p == 0 for t, p in counted)
    return 100 * both / sum(t == 0 or p == 0 for t, p in counted)


@pytest.mark.parametrize("void", [False, True])
@pytest.mark.parametrize("name", BY_HAND)
def test_a_row_is_what_counting_the_pixels_one_by_one_gives(name, void):
    learned = [0, 0, 0, 1, 1, 2]
    rng = np.random.default_rng(3)
    records, by_hand = [], []
    for index, seen in enumerate((3, 5, 6)):
        truths = rng.choice([0, 1, 3, 4, 5, VOID], (2, 12, 13))  # 2 is nowhere
        guessed = rng.integers(0, seen, truths.shape)
        known = rng.random(truths.shape) < 0.6
        preds = np.where(known & (truths < seen), truths, guessed)
        if index == 2:
            truths[truths == 5] = 0  # a last step none of whose classes is there
        pairs = torch.from_numpy(truths), torch.from_numpy(preds)
        matrix = confusion_matrix(*pairs, len(learned), seen).numpy()
        records.append(evaluated(matrix, learned, index))
        by_hand.append(means_by_hand(name, truths, preds, learned, void))

    got = table_row(records, protocols("void" if void else "annotated")[name])
    everything, added, *groups = by_hand[-1]
    average = sum(row[0] for row in by_hand) / 3 if name == "plop" else None
    harmonic = 2 * groups[0] * added / (groups[0] + added) if name == "dkd" else None
    assert got["groups"] == [pytest.approx(group, abs=1e-3) for group in groups]
    assert got["groups"][2] == (0 if name in ("ssul", "dkd", "mbs") else None)
    del got["groups"]
    expected = {"base": groups[0], "added": added, "all": everything}
    assert got == pytest.approx(expected | {"average": average, "harmonic": harmonic}, abs=1e-3)


def test_a_class_that_died_is_left_out_of_the_mean_of_mbs_alone():
    record = evaluated([[6, 2, 0], [1, 3, 0], [2, 2, 0]], [0, 0, 1], 1)
    alive = [6 / 11, 3 / 8]
    for name, protocol in protocols("annotated").items():
        row = table_row([record], protocol)
        values = alive if name == "mbs" else [*alive, 0]
        values = values[1:] if name == "mib" else values
        assert row["all"] == pytest.approx(100 * sum(values) / len(values), abs=1e-3), name
        assert row["added"] == 0, name
        base = alive[1:] if name in ("mib", "mbs") else alive
        assert row["base"] == pytest.approx(100 * sum(base) / len(base), abs=1e-3), name


def test_after_one_step_there_is_no_added_class():
    record = evaluated([[8, 2], [4, 6], [3, 3]], [0, 0, 1], 0)
    got = {n: table_row([record], p) for n, p in protocols("annotated").items()}
    assert {row["added"] for row in got.values()} == {None}
    assert {row["harmonic"] for row in got.values()} == {None}
    a = pytest.approx(100 * 6 / 12, abs=1e-3)
    assert (got["mib"]["all"], got["mib"]["groups"]) == (a, [a])
    assert got["plop"]["all"] == pytest.approx(100 * (11 / 20 + 6 / 15) / 2, abs=1e-3)


def test_each_line_says_what_counts():
    lines = {name: p.line() for name, p in protocols("void").items()}
    for name, line in lines.items():
        assert ("pixels of the background do not count" in line) == (name in ("mib", "sdr", "mbs"))
        assert ("in no mean" in line) == (name in ("mib", "sdr"))
        assert ("count as 0" in line) == (name in ("ssul", "dkd", "mbs"))
        assert ("IoU 0 are left out of the mean of all" in line) == (name == "mbs")
        assert ("is in the mean of all classes alone" in line) == (name == "mbs")
        assert ("not learned yet count as background" in line) == (name == "plop")
    lines = {name: p.line() for name, p in protocols("annotated").items()}
    assert [name for name, line in lines.items() if "in no mean" in line] == ["mib"]
    coming = [n for n, line in lines.items() if "not learned yet count as background" in line]
    assert coming == ["plop", "dkd"]
    assert not any("pixels of the background" in line for line in lines.values())


def test_where_there_is_no_background_output_0_is_a_class_like_any():
    record = Evaluated("step1", 1, ["road", "car"], [0, 0], 2, 1, [[6, 2], [1, 3]])
    both = 100 * (6 / 9 + 3 / 6) / 2
    for name, protocol in protocols("none").items():
        row = table_row([record], protocol)
        assert row["all"] == row["base"] == pytest.approx(both, abs=1e-3), name
        assert row["added"] is None
    assert table_row([record], protocols("annotated")["mib"])["all"] == pytest.approx(50, abs=1e-3)
