"""The page of the papers' tables: its commands compose, and its hours follow from what it says."""

import functools
import json
from types import SimpleNamespace

import pytest

from bench import counts, papers
from cssegcore.report.comparison.published import published_rows
from stages import check
from tests.conf.test_published import checked
from tests.helpers import tiny_dataset as scenes

pytestmark = pytest.mark.slow

ALL = list(papers.reproductions())
PAGE = (scenes.HOME / "docs/papers.md").read_text(encoding="utf-8")
IMAGES = {"voc": 10_582, "ade": 20_210, "cityscapes": 2_975}
WITHOUT_WEIGHTS = "model.backbone.weights=none"
STATED = {"voc/15-1": [9568, 487, 299, 491, 500, 548]}


@pytest.fixture(autouse=True)
def home(monkeypatch):
    monkeypatch.chdir(scenes.HOME)


def found(scenario, method, **row):
    """The first reproduction of a pair whose published row is so."""
    return next(
        r
        for r in ALL
        if (r.row.scenario, r.method) == (scenario, method)
        and all(getattr(r.row, key) == value for key, value in row.items())
    )


def test_every_published_row_has_a_command_in_the_page():
    assert {r.row.source for r in ALL} == {row.source for row in published_rows()}
    lines = {line for line in PAGE.splitlines() if line.startswith("| ")}
    for one in ALL:
        fitting = [line for line in lines if f"| `{one.command}` |" in line]
        assert any(f"| {one.row.scenario} | {one.expected} |" in line for line in fitting), one


def test_a_command_says_what_the_scenario_and_the_pair_leave_out():
    mib = found("voc/15-1", "mib", counting="mib", setting="disjoint")
    assert mib.command == (
        "dvc exp run -S scenario=voc/15-1 -S method=mib -S scenario.setting=disjoint"
        " -S model=deeplabv3_r101_iabn -S labels.void=background -S evaluation.view=crop"
    )
    ade = found("ade/100-50", "mib", counting="mib")
    assert "labels.void" not in ade.command
    assert ade.command.startswith("dvc exp run --queue ")
    assert "-S 'order=none,ade/100-50/b'" in ade.command
    assert [run[3] for run in ade.runs] == ["order=none", "order=ade/100-50/b"]
    assert len(next(r for r in ALL if r.row.deviations).runs) == 5


def test_the_steps_costs_are_those_of_the_page_on_methods():
    costs = papers.step_costs()
    named = {papers.ALIKE.get(r.method, r.method) for r in ALL}
    assert named <= costs.keys()
    assert costs["ewc"] == 1.04  # the one network that it was measured on
    assert costs["ft"] == 1
    assert all(0.2 < cost < 2 for cost in costs.values())


def test_hours_are_images_times_costs_at_the_assumed_rate():
    one, costs = found("voc/15-1", "plop"), {"plop": 2.0}
    cost = papers.cost(one, counts.read_counts(), costs, 100)
    first, *later = (n // 24 * 30 for n in STATED["voc/15-1"])
    assert (cost.iterations, cost.batch) == (first + sum(later), 24)
    assert cost.hours == pytest.approx((first + 2 * sum(later)) * 24 / 100 / 3600)


def test_larger_networks_and_crops_take_longer_and_memories_join_the_list():
    held = counts.read_counts()
    ours, costs = found("voc/15-1", "mbs"), {"mbs": 1.0, "dkd": 1.0, "mib": 1.0}
    cost = papers.cost(ours, held, costs, 100)
    plain = cost.iterations * 16 / 100 / 3600
    assert cost.hours == pytest.approx(plain * papers.OPERATIONS["segmenter_vit_b16"])
    memory = papers.cost(found("voc/15-1", "dkd_m"), held, costs, 100)
    first, *later = STATED["voc/15-1"]
    assert memory.iterations == 60 * (first // 32 + sum((n + 100) // 32 for n in later))
    tuned = papers.cost(found("voc/15-1", "nest_mib"), held, costs, 100)
    extra = papers.PRETUNING * 6 * sum(n // 24 for n in later)
    assert tuned.hours == pytest.approx((tuned.iterations + extra) * 24 / 100 / 3600)


def test_cities_are_counted_as_the_published_lists_have_them():
    held = counts.read_counts()
    assert held["cityscapes/11-5"]["domain"]["train"] == [1504, 702, 573]
    for name in ("1-1", "11-1", "11-5"):
        ours = counts.counted(f"cityscapes/{name}", "domain", list(counts.city_entries()))
        assert held[f"cityscapes/{name}"]["domain"] == ours


@functools.cache
def parts_fit(values):
    """Has the parts checked as `stages.check` does, without dataset and pretrained weights."""
    params, whole = checked(json.loads(values))
    images = IMAGES[params.scenario.name.partition("/")[0]]
    dataset = SimpleNamespace(
        classes=tuple(params.dataset["classes"]), names=lambda _: [str(n) for n in range(images)]
    )
    check._check_room(params, whole, dataset)
    check._checked_network(params, whole, dataset)


@pytest.mark.long
@pytest.mark.parametrize("command", dict.fromkeys(r.command for r in ALL))
def test_every_command_composes_and_passes_the_checks(command):
    one = next(r for r in ALL if r.command == command)
    seeds = {f"seed={n}" for n in range(2, 6)}  # composed as the first is
    for run in (run for run in one.runs if seeds.isdisjoint(run)):
        params = papers.composed([*run, WITHOUT_WEIGHTS])
        assert len(params["steps"]) == len(papers.lengths(one.row, counts.read_counts()))
        parts_fit(json.dumps(params))


@pytest.mark.long
def test_the_page_is_what_the_command_prints():
    _, mark, tables = PAGE.partition(papers.MARK)
    assert mark
    assert tables == papers.tables(papers.RATE)
