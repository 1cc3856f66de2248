import math

import numpy as np
import pytest
import torch

from cssegcore.core.errors import InputError
from cssegcore.metrics.confusion import (
    class_accuracy,
    fold_future,
    frequency_weighted_iou,
    iou,
    overall_accuracy,
)
from cssegcore.metrics.continual import (
    backward_transfer,
    class_iou,
    continual_scores,
    forgetting,
    points,
    step_metrics,
)
from cssegcore.metrics.counting import confusion_matrix
from cssegcore.metrics.record import evaluated

NAN = float("nan")


def record(index, matrix, learned=(0, 0, 1, 2), **changed):
    """A `confusion.json`; classes to come are those with no column."""
    return {
        "step": f"step{index}",
        "index": index,
        "classes": ["background", "a", "b", "c"][: len(learned)],
        "learned": list(learned),
        "seen": len(matrix[0]),
        "images": 7,
        "matrix": matrix,
    } | changed


# Three steps of one run. Every IoU below is worked out by hand from these counts.
RUN = [
    record(0, [[80, 20], [10, 90], [30, 10], [5, 5]]),
    record(1, [[70, 20, 10], [20, 60, 20], [10, 0, 30], [6, 0, 4]]),
    record(2, [[90, 5, 5, 0], [40, 60, 0, 0], [20, 0, 20, 0], [0, 0, 2, 8]]),
]


class TestConfusion:
    def test_counts_as_a_loop_over_pixels_does(self):
        rng = np.random.default_rng(0)
        labels, preds = rng.integers(-1, 9, (3, 9, 8)), rng.integers(0, 5, (3, 9, 8))
        labels[0, 0] = 255
        expected = [[0] * 5 for _ in range(7)]
        for truth, predicted in zip(labels.ravel(), preds.ravel(), strict=True):
            if 0 <= truth < 7:
                expected[truth][predicted] += 1
        counted = confusion_matrix(torch.from_numpy(labels), torch.from_numpy(preds), 7, 5)
        assert counted.tolist() == expected

    def test_takes_bytes_without_overflow(self):
        labels = torch.full((4, 4), 20, dtype=torch.uint8)  # 20 * 21 + 20 does not fit a byte
        assert confusion_matrix(labels, labels, 21, 21)[20, 20] == 16

    def test_numbers_are_those_of_the_definition(self):
        matrix = np.array([[6, 2, 0, 1], [1, 3, 0, 0], [0, 0, 0, 0], [4, 0, 0, 3]])
        # class 0: 6 right, 9 true, 11 predicted; class 2 has no truth
        assert iou(matrix) == pytest.approx([6 / 14, 3 / 6, NAN, 3 / 8], abs=1e-6, nan_ok=True)
        assert class_accuracy(matrix) == pytest.approx(
            [6 / 9, 3 / 4, NAN, 3 / 7], abs=1e-6, nan_ok=True
        )
        assert overall_accuracy(matrix) == 12 / 20
        weighted = (9 * 6 / 14 + 4 * 3 / 6 + 7 * 3 / 8) / 20
        assert frequency_weighted_iou(matrix) == pytest.approx(weighted, abs=1e-6)

    def test_a_class_that_is_predicted_but_never_true_is_undefined(self):
        assert math.isnan(iou(np.array([[5, 3], [0, 0]]))[1])

    def test_nothing_counted_is_undefined_and_not_zero(self):
        empty = np.zeros((2, 2), np.int64)
        assert math.isnan(overall_accuracy(empty))
        assert math.isnan(frequency_weighted_iou(empty))

    def test_classes_to_come_are_background_or_left_out(self):
        matrix = np.array(RUN[0]["matrix"])
        assert fold_future(matrix, "background").tolist() == [[115, 35], [10, 90]]
        assert fold_future(matrix, "ignore").tolist() == [[80, 20], [10, 90]]
        assert matrix[0].tolist() == [80, 20]  # the argument is left as it was


class TestStep:
    def test_groups_with_and_without_background(self):
        # truth 100, 100, 40, 10; predicted 150, 65, 27, 8
        a = [90 / 160, 60 / 105, 20 / 47, 8 / 10]
        expected = {
            "all": sum(a) / 4,
            "all_nobg": sum(a[1:]) / 3,
            "old": sum(a[:3]) / 3,
            "old_nobg": (a[1] + a[2]) / 2,
            "new": a[3],
            "new_nobg": a[3],
            "base": (a[0] + a[1]) / 2,
            "base_nobg": a[1],
            "added": (a[2] + a[3]) / 2,
            "added_nobg": (a[2] + a[3]) / 2,
        }
        got = step_metrics(evaluated(RUN[2], "x"), future="background")
        assert got["miou"] == pytest.approx({k: 100 * v for k, v in expected.items()}, abs=1e-3)
        old, new = expected["old_nobg"], expected["new_nobg"]
        assert got["harmonic"] == pytest.approx(100 * 2 / (1 / old + 1 / new), abs=1e-3)
        assert got["accuracy"] == pytest.approx(100 * 178 / 250)
        assert got["mean_accuracy"] == pytest.approx(100 * (0.9 + 0.6 + 0.5 + 0.8) / 4, abs=1e-3)
        assert (got["step"], got["images"]) == ("step2", 7)

    def test_step_0_has_no_old_and_its_new_counts_background(self):
        miou = step_metrics(evaluated(RUN[0], "x"), future="ignore")["miou"]
        a, background = 90 / 120, 80 / 110
        assert miou["new"] == miou["base"] == miou["all"]
        assert miou["new"] == pytest.approx(100 * (a + background) / 2, abs=1e-3)
        assert miou["new_nobg"] == pytest.approx(100 * a, abs=1e-3)
        assert miou["old"] is None
        assert miou["added_nobg"] is None
        assert step_metrics(evaluated(RUN[0], "x"), future="ignore")["harmonic"] is None

    def test_joint_training_has_base_and_added_classes_in_its_only_step(self):
        joint = step_metrics(evaluated(RUN[2] | {"index": 0}, "x"), future="background")["miou"]
        incremental = step_metrics(evaluated(RUN[2], "x"), future="background")["miou"]
        for group in ("all", "base", "base_nobg", "added"):
            assert joint[group] == incremental[group]
        assert joint["old"] is None
        assert joint["new"] == joint["base"]

    @pytest.mark.parametrize(
        ("future", "background", "named"),
        [
            # class c, not learned yet: 10 true pixels, 6 predicted background, 4 predicted b
            ("background", 76 / (110 + 106 - 76), "count as background"),
            ("ignore", 70 / (100 + 100 - 70), "do not count"),
        ],
    )
    def test_the_rule_for_classes_to_come_changes_the_numbers_and_is_named(
        self, future, background, named
    ):
        got = step_metrics(evaluated(RUN[1], "x"), future=future)
        values = plain_iou(RUN[1]["matrix"], future)
        assert values[0] == background
        assert got["miou"]["all"] == pytest.approx(100 * sum(values) / 3, abs=1e-3)
        assert named in got["protocol"].split(";")[0]

    def test_old_and_new_both_lost_have_a_harmonic_mean_of_0(self):
        lost = record(1, [[9, 0, 0], [9, 0, 0], [9, 0, 0]], learned=(0, 0, 1))
        assert step_metrics(evaluated(lost, "x"), future="background")["harmonic"] == 0

    @pytest.mark.parametrize(
        ("changed", "message"),
        [
            ({"learned": [0, 0, 1]}, r"`learned`.*4 classes"),
            ({"learned": [0, 1, 0, 2]}, r"rising order"),
            ({"seen": 5}, r"`seen`.*\[1, 4\].*got 5"),
            ({"matrix": [[1, 2]] * 4}, r"4 rows .*4 columns.*got 4 rows of \[2\]"),
            ({"sen": 4}, r"`x.sen` is not a key"),
        ],
    )
    def test_a_record_that_does_not_fit_is_refused(self, changed, message):
        with pytest.raises(InputError, match=message):
            evaluated(RUN[2] | changed, "x")


class TestContinual:
    TABLE = np.array(
        [
            [0.9, 0.6, NAN, NAN],
            [0.8, 0.7, 0.5, NAN],
            [0.85, 0.2, 0.6, 0.4],
        ]
    )

    def test_forgetting_is_the_distance_to_the_best_earlier_step(self):
        expected = [
            [NAN, NAN, NAN, NAN],
            [0.1, -0.1, NAN, NAN],
            [0.05, 0.5, -0.1, NAN],
        ]
        got = forgetting(self.TABLE)
        for row, want in zip(got, expected, strict=True):
            assert row == pytest.approx(want, nan_ok=True)

    def test_backward_transfer_is_the_change_since_a_class_was_new(self):
        got = backward_transfer(self.TABLE)
        assert got == pytest.approx([-0.05, -0.4, 0.1, NAN], nan_ok=True)

    def test_a_class_without_truth_for_a_while_is_compared_with_when_it_had_some(self):
        table = np.array([[0.9, 0.6], [0.8, NAN], [0.7, 0.5]])
        assert forgetting(table)[2] == pytest.approx([0.2, 0.1])
        assert forgetting(table)[1] == pytest.approx([0.1, NAN], nan_ok=True)

    @pytest.mark.parametrize("future", ["background", "ignore"])
    def test_scores_of_a_run_match_a_plain_loop(self, future):
        table = [plain_iou(r["matrix"], future) for r in RUN]
        got = continual_scores([evaluated(r, "x") for r in RUN], future)
        for first, suffix in ((0, ""), (1, "_nobg")):
            means = [sum(row[first:]) / len(row[first:]) for row in table]
            lost, gained = [], []
            for c in range(first, 3):  # class 3 is new in the last step
                earlier = [row[c] for row in table[:-1] if c < len(row)]
                lost.append(max(earlier) - table[-1][c])
                gained.append(table[-1][c] - earlier[0])
            expected = {
                "average": sum(means) / 3,
                "forgetting": sum(lost) / len(lost),
                "backward_transfer": sum(gained) / len(gained),
            }
            for name, value in expected.items():
                assert got[name + suffix] == pytest.approx(100 * value, abs=1e-3), name

    def test_one_step_has_nothing_to_forget(self):
        got = continual_scores([evaluated(RUN[0], "x")], "ignore")
        assert got["forgetting"] is None
        assert got["backward_transfer_nobg"] is None
        assert (
            got["average"] == step_metrics(evaluated(RUN[0], "x"), future="ignore")["miou"]["all"]
        )

    def test_the_table_is_empty_where_a_class_is_not_seen(self):
        table = class_iou([evaluated(r, "x") for r in RUN], "ignore")
        assert np.isnan(table).tolist() == [
            [False, False, True, True],
            [False, False, False, True],
            [False] * 4,
        ]

    def test_points_are_rounded_and_have_no_negative_zero(self):
        assert points(2 / 3) == 66.6667
        assert str(points(-1e-9)) == "0.0"
        assert points(NAN) is None


def plain_iou(matrix, future):
    """IoU of every seen class, one class at a time."""
    seen = len(matrix[0])
    rows = [list(row) for row in matrix[:seen]]
    if future == "background":
        for row in matrix[seen:]:
            rows[0] = [x + y for x, y in zip(rows[0], row, strict=True)]
    return [
        rows[c][c] / (sum(rows[c]) + sum(row[c] for row in rows) - rows[c][c]) for c in range(seen)
    ]
