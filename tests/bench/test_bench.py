import math

import pytest
import torch

from bench import _loops, losses, selection, sweep
from bench._device import Clock, arithmetic_rate, copy_rate, quartiles
from bench._traffic import Traffic
from cssegcore.method.pseudo_labels.entropy import histogram, released_thresholds
from tests.helpers import tiny_dataset as scenes

pytestmark = pytest.mark.slow

MODULES = sorted(
    f"bench.{path.stem}"
    for path in (scenes.HOME / "bench").glob("*.py")
    if not path.stem.startswith("_")
)
CPU = torch.device("cpu")
LENGTHS = {
    "step0": {"train": 100, "seen": 100},
    "step1": {"train": 50, "seen": 150},
    "step2": {"train": 7, "seen": 157},
}
SHORT = (
    "scenario=shapes/4-2",
    "schedule.base.epochs=10",
    "schedule.increment.epochs=3",
    "optimizer.batch_size=8",
)
BASE_CHANGES = ("seed=2", "model.depth=8", "labels.void=background", "scenario.setting=disjoint")


@pytest.fixture(scope="module")
def runs():
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(scenes.HOME)
        made = {}
        for method in ("ft", "mib", "ssul", "joint"):
            params = sweep.composed([*SHORT, f"method={method}"])
            made[method] = sweep.trainings(params, LENGTHS)
        for change in (*BASE_CHANGES, "steps.step1.lr=0.007"):
            params = sweep.composed([*SHORT, "method=mib", change])
            made[change] = sweep.trainings(params, LENGTHS)
        return made


@pytest.fixture(scope="module")
def cases():
    return {case.name: case for case in losses.cases(64, 2, CPU)}


def test_there_are_benches():
    assert {"bench.losses", "bench.loader", "bench.sweep", "bench.train_step"} <= set(MODULES)


@pytest.mark.parametrize("name", MODULES)
def test_every_bench_says_how_it_is_run(name):
    outcome = scenes.run_module(name, "--help")
    assert (outcome.status, outcome.err) == (0, "")
    assert f"python -m {name}" in outcome.out


class TestSweep:
    def test_iterations_are_those_of_the_schedule(self, runs):
        # whole batches of 8 in 100, 50 and 7 images; fewer images than a batch make one
        assert [t.iterations for t in runs["ft"]] == [10 * 12, 3 * 6, 3 * 1]
        assert [t.step for t in runs["ft"]] == ["step0", "step1", "step2"]

    def test_what_a_step_depends_on_does_not_grow_with_steps(self, runs):
        assert {len(t.depends) for run in runs.values() for t in run} == {64}

    def test_joint_trains_on_all_images_so_far(self, runs):
        assert [t.iterations for t in runs["joint"]] == [10 * 12, 3 * 18, 3 * 19]

    def test_equal_base_recipes_train_once(self, runs):
        counts = sweep.run_and_restored([runs["ft"], runs["mib"], runs["ssul"]])
        assert counts == [(141, 0), (21, 120), (141, 0)]

    def test_the_same_run_again_trains_nothing(self, runs):
        assert sweep.run_and_restored([runs["mib"], runs["mib"]]) == [(141, 0), (0, 141)]

    def test_a_change_of_a_step_trains_those_after_it(self, runs):
        counts = sweep.run_and_restored([runs["mib"], runs["steps.step1.lr=0.007"]])
        assert counts == [(141, 0), (21, 120)]

    @pytest.mark.parametrize("change", BASE_CHANGES)
    def test_what_changes_a_base_step_shares_none(self, runs, change):
        assert sweep.run_and_restored([runs["mib"], runs[change]]) == [(141, 0), (141, 0)]


class TestLosses:
    def test_loops_and_library_agree(self, cases):
        assert len(cases) == 11
        for case in cases.values():
            case.check()

    def test_thresholds_are_of_all_kinds(self, cases):
        thresholds = cases["entropy thresholds"].loops()
        assert (thresholds == losses.BASE).any()
        assert (thresholds > losses.BASE).any()

    def test_a_search_that_never_stops_accepts_all(self):
        spread = torch.linspace(0, 0.9, 200 * 200).reshape(1, 200, 200)
        seen = spread, torch.zeros_like(spread, dtype=torch.int64), spread >= 0
        assert _loops.released_thresholds(*seen, (1, 100), 0.5).tolist() == [math.inf]
        assert released_thresholds(histogram(*seen, (1, 100)), 0.5).tolist() == [math.inf]

    def test_a_class_without_pixels_has_the_base(self):
        nothing = torch.zeros(1, 2, 2)
        seen = nothing, nothing.long(), nothing.bool()
        assert _loops.released_thresholds(*seen, (2, 100), 0.5).tolist() == [0.5, 0.5]

    def test_values_that_do_not_agree_are_refused(self):
        losses.Case("", lambda: torch.ones(()), lambda: torch.tensor(1.00001)).check()
        with pytest.raises(AssertionError):
            losses.Case("", lambda: torch.ones(()), lambda: torch.tensor(1.001)).check()

    def test_gradients_that_do_not_agree_are_refused(self):
        leaf = torch.ones(2, requires_grad=True)
        case = losses.Case("", lambda: leaf.sum(), lambda: 2 * leaf[0], [leaf])
        with pytest.raises(AssertionError):
            case.check()


class TestClock:
    def test_works_take_turns_and_the_first_is_not_counted(self):
        seen = []
        works = {name: lambda name=name: seen.append(name) for name in "ab"}
        taken = Clock(CPU).turns(works, 2)
        assert seen == list("ababab")
        assert {name: len(seconds) for name, seconds in taken.items()} == {"a": 2, "b": 2}
        assert min(min(seconds) for seconds in taken.values()) >= 0

    def test_rates_count_operations_and_bytes(self, monkeypatch):
        """The fastest run counts, and the faster of product and convolution."""
        turns = iter([[2.0, 8.0, 4.0], [9.0], [2.0, 8.0, 4.0]])
        monkeypatch.setattr(Clock, "turns", lambda *_: {"": next(turns)})
        assert arithmetic_rate(Clock(CPU), torch.float32) == 2 * 2048**3 / 2
        assert copy_rate(Clock(CPU)) == 2 * 2**28 / 2

    def test_quartiles(self):
        assert quartiles([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]) == (2, 4, 6)


def test_traffic_is_what_operations_read_and_write():
    left, right = torch.rand(30, 20, requires_grad=True), torch.rand(30, 20)
    size = left.numel() * 4
    with Traffic() as product:
        left.detach() @ right.t()
    assert product.bytes == 2 * size + 30 * 30 * 4
    with Traffic() as place:
        right.add_(1)
    assert place.bytes == 2 * size
    with Traffic() as views:
        right.t()[None, 3:]
    assert views.bytes == 0
    with Traffic() as backward:
        (left * right).sum().backward()
    ahead, single = 3 * size + size, 4
    # the sum, a one like it, and the one spread out, times the other factor
    assert backward.bytes == ahead + single + 2 * single + 3 * size


CURVE = [
    {"all": 10.0, "base": 20.0, "added": None, "new": 1.0},
    {"all": 12.5, "base": 25.0, "added": None, "new": 0.5},
    {"all": 12.5, "base": 26.0, "added": None, "new": 0.5},
    {"all": 12.0, "base": 24.0, "added": None, "new": None},
]


class TestSelection:
    def test_the_first_of_the_best_epochs_is_chosen(self):
        assert selection.best_epoch(CURVE, "all") == 1
        assert selection.best_epoch(CURVE, "new") == 0

    def test_a_table_has_the_difference_of_each_group_of_classes(self):
        lines = selection.table("ssul", {"step0": CURVE}, "all").splitlines()
        assert [line.split() for line in lines[1:]] == [
            ["ssul", "step0", "all", "12.00", "12.50", "2", "of", "4", "+0.50"],
            ["ssul", "step0", "base", "24.00", "25.00", "2", "of", "4", "+1.00"],
        ]
        chosen = selection.table("ssul", {"step0": CURVE}, "new").splitlines()[1]
        assert chosen.split()[-1] == "-2.00"

    def test_commands_are_those_that_dvc_runs(self):
        params = sweep.composed([*SHORT, "method=mib"])
        assert selection.commands(params) == {
            name: ["-m", *command] for name, command in scenes.commands(params).items()
        }
